"""Train the P-frame codec, one stage a call. The flags are those of the community's train_dcvc.py."""

import argparse
import os
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.config import MODEL_SIZES, DataConfig, IntraConfig, TrainConfig
from dcvc.errors import InputError
from dcvc.recipes import LAMBDAS, STAGES, stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser.add_argument_group("data"))
    _intra_arguments(parser.add_argument_group("I-frame codec"))
    _stage_arguments(parser.add_argument_group("stage"))
    _run_arguments(parser.add_argument_group("run"))
    _validation_arguments(parser.add_argument_group("validation and learning rate"))


def _data_arguments(group: argparse._ArgumentGroup) -> None:
    add_flag(group, "use_video_dataset", False, "train from video files instead of folders of images")
    group.add_argument("--train_video_dir", nargs="+", default=[], metavar="D", help="folders of training videos")
    group.add_argument("--val_video_dir", metavar="V", help="folder of validation videos")
    group.add_argument("--vimeo_dir", help="Vimeo-90k: the folder with sequences/")
    group.add_argument("--septuplet_list", help="Vimeo-90k: its list file, one 00001/0001 a line")
    group.add_argument("--bvi_aom_dir", help="BVI-AOM: a folder of images per sequence (stage 5)")
    group.add_argument("--hevc_b_dir", help="HEVC class B as folders of images, for validation")
    group.add_argument("--crop_size", type=int, default=DataConfig.crop_size)
    group.add_argument("--batch_size", type=int, default=DataConfig.batch_size, help="clips per process and update")
    group.add_argument("--num_workers", type=int, default=min(4, os.cpu_count() or 1), help="decoding processes")


def _intra_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--i_frame_type", choices=("compressai", "vqgan"), default="compressai")
    group.add_argument("--i_frame_model_name", default=IntraConfig.model_name, help="a model of CompressAI's zoo")
    group.add_argument("--i_frame_quality", type=int, default=IntraConfig.quality)
    add_flag(group, "i_frame_pretrained", True, "CompressAI's published weights (downloaded)")
    group.add_argument("--i_frame_checkpoint", help="a local file of CompressAI weights")
    group.add_argument("--vqgan_config", metavar="C", help="VQGAN configuration, JSON or YAML")
    group.add_argument("--vqgan_checkpoint", metavar="K", help="VQGAN weights")


def _stage_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--stage", type=int, choices=tuple(STAGES), default=4)
    group.add_argument("--gop_size", type=int, default=None, help="frames per sample (default: 2; stage 5: 32)")
    group.add_argument("--epochs", type=int, default=1)
    group.add_argument("--max_steps", type=int, default=None, help="stop after so many batches, within the epochs")
    group.add_argument("--lambda_value", type=float, default=None,
                       help="lambda of lambda*MSE + bpp, MSE over RGB in [0, 1] (default: by --quality_index)")
    group.add_argument("--quality_index", type=int, choices=range(len(LAMBDAS)), default=len(LAMBDAS) - 1,
                       help="lambda " + ", ".join(f"{i}: {value:g}" for i, value in enumerate(LAMBDAS)))
    group.add_argument("--learning_rate", type=float, default=1e-4)
    add_flag(group, "force_learning_rate", False, "with --resume: --learning_rate instead of the checkpoint's")
    add_flag(group, "stage4_gop_opt", False, "stages 4, 5: one update on the whole GOP, gradients through references")
    group.add_argument("--model_size", choices=tuple(MODEL_SIZES), default="dcvc2021",
                       help="of a model that starts from random weights")


def _run_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint_dir", default="checkpoints", help="the run folder")
    group.add_argument("--resume", nargs="?", const="auto", default=None, metavar="LATEST",
                       help="continue this stage from its latest.pt (or the one given)")
    group.add_argument("--load_pretrained", metavar="FILE", help="start from these weights: a run, ours, Microsoft's "
                                                                 "DCVC-2021 or OpenDCVCs")
    group.add_argument("--seed", type=int, default=TrainConfig.seed)
    group.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default=TrainConfig.mixed_precision)
    group.add_argument("--gradient_accumulation_steps", type=int, default=TrainConfig.gradient_accumulation_steps)
    group.add_argument("--grad_clip_max_norm", type=float, default=TrainConfig.grad_clip_max_norm, help="0: none")
    add_flag(group, "use_ema", False, "average the weights; validation and best.pt use the average")
    group.add_argument("--ema_decay", type=float, default=TrainConfig.ema_decay)
    add_flag(group, "compile", False, "torch.compile")
    group.add_argument("--checkpoint_minutes", type=float, default=TrainConfig.checkpoint_minutes,
                       help="longest time between two writings of latest.pt")
    add_device(group)
    add_flag(group, "quiet", False, "no progress line")


def _validation_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--eval_freq", type=int, default=TrainConfig.eval_freq, help="epochs between validations")
    group.add_argument("--eval_max_frames", type=int, default=None, help="of each validation sequence")
    group.add_argument("--eval_intra_period", type=int, default=TrainConfig.eval_intra_period)
    add_flag(group, "skip_eval", False, "no validation: no best.pt either")
    add_flag(group, "use_scheduler", False, "ReduceLROnPlateau on the validation loss")
    group.add_argument("--scheduler_factor", type=float, default=TrainConfig.scheduler_factor)
    group.add_argument("--scheduler_patience", type=int, default=TrainConfig.scheduler_patience)
    group.add_argument("--scheduler_min_lr", type=float, default=TrainConfig.scheduler_min_lr)


def job_from(options: argparse.Namespace):
    """Flags -> train.Job. Raises InputError for values that do not go together."""
    from dcvc.train import Job

    def pick(cls: type, **renamed):
        names = [name for name in cls.__dataclass_fields__ if name not in renamed and hasattr(options, name)]
        return cls(**{name: getattr(options, name) for name in names}, **renamed)

    if options.lambda_value is not None and options.lambda_value <= 0:
        raise InputError(f"--lambda_value: found {options.lambda_value:g}, needed more than 0")
    if options.stage4_gop_opt and options.stage < 4:
        raise InputError(f"--stage4_gop_opt: found with --stage {options.stage}, needed --stage 4 or 5")
    default_gop = STAGES[options.stage].gop_size
    gop_size = default_gop if options.gop_size is None else options.gop_size
    return Job(
        stage=stage(options.stage, gop_size=gop_size, learning_rate=options.learning_rate, epochs=options.epochs,
                    max_steps=options.max_steps, cascaded=options.stage4_gop_opt),
        data=pick(DataConfig, train_video_dir=tuple(options.train_video_dir)),
        intra=IntraConfig(options.i_frame_type, options.i_frame_model_name, options.i_frame_quality,
                          options.i_frame_pretrained, options.i_frame_checkpoint, options.vqgan_config,
                          options.vqgan_checkpoint),
        train=pick(TrainConfig, lambda_value=options.lambda_value or LAMBDAS[options.quality_index]),
        checkpoint_dir=Path(options.checkpoint_dir), inter=MODEL_SIZES[options.model_size], resume=options.resume,
        load_pretrained=options.load_pretrained, force_learning_rate=options.force_learning_rate,
        device=options.device, quiet=options.quiet)


def run(options: argparse.Namespace) -> int:
    job = job_from(options)
    from dcvc.train import train_stage

    outcome = train_stage(job)
    best = "no validation" if outcome.best is None else f"best validation loss {outcome.best:.4f}"
    if os.environ.get("RANK", "0") == "0":
        print(f"{job.stage.label}: {outcome.steps} steps done, {best}, in {outcome.folder}")
    return 0
