"""Train the P-frame codec: a whole recipe (--recipe), or one stage a call by the community's train_dcvc.py flags."""

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.config import MODEL_SIZES, DataConfig, IntraConfig, SamplingOptions, TrainConfig, from_dict
from dcvc.errors import InputError
from dcvc.schedule import LAMBDAS, RECIPES, STAGES, Recipe, change_recipe, key_values, load_recipe, stage

INTRA_FLAGS = {"type": "i_frame_type", "model_name": "i_frame_model_name", "quality": "i_frame_quality",
               "pretrained": "i_frame_pretrained", "checkpoint": "i_frame_checkpoint",
               "vqgan_config": "vqgan_config", "vqgan_checkpoint": "vqgan_checkpoint"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser.add_argument_group("recipe: every stage in one command, continued by the same command"))
    _data_arguments(parser.add_argument_group("data"))
    _intra_arguments(parser.add_argument_group("I-frame codec"))
    _stage_arguments(parser.add_argument_group("stage"))
    _run_arguments(parser.add_argument_group("run"))
    _validation_arguments(parser.add_argument_group("validation and learning rate"))


def _recipe_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--recipe", metavar="NAME", help=f"{', '.join(RECIPES)}, or a .json or .toml file")
    group.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="change the recipe: max_steps=500, stage4.learning_rate=5e-5, batch_size=8 …")
    group.add_argument("--lambdas", nargs="*", type=float, default=None, metavar="L",
                       help="one codec for each; the later ones start from the first")
    add_flag(group, "dry_run", False, "print the recipe's table with estimated times, train nothing")
    add_flag(group, "accept_changes", False, "go on in a run that was begun with other settings")


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
    group.add_argument("--sampling", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="how GOPs are drawn from videos: crops_per_read=4, on_bad_video=skip, stride=2, "
                            "rescale=[256,512] … (docs/data.md)")


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
    add_flag(group, "activation_checkpointing", False, "cascaded GOPs in a fraction of the memory, a third slower")
    group.add_argument("--checkpoint_minutes", type=float, default=TrainConfig.checkpoint_minutes,
                       help="longest time between two writings of latest.pt")
    group.add_argument("--keep_checkpoints", type=int, default=TrainConfig.keep_checkpoints,
                       help="latest.pt and so many less one before it")
    group.add_argument("--max_skips", type=int, default=TrainConfig.max_skips,
                       help="steps in a row that may be left out because loss or gradient is not finite")
    group.add_argument("--max_rollbacks", type=int, default=TrainConfig.max_rollbacks,
                       help="after these, so often back to the last good checkpoint, then stop")
    group.add_argument("--rollback_factor", type=float, default=TrainConfig.rollback_factor,
                       help="of the learning rate, each time")
    group.add_argument("--log_every", type=int, default=TrainConfig.log_every, help="steps between logged numbers")
    add_flag(group, "wandb", False, "log to Weights & Biases too")
    add_device(group)
    add_flag(group, "quiet", False, "no progress line")


def _validation_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--eval_freq", type=int, default=TrainConfig.eval_freq, help="epochs between validations")
    group.add_argument("--eval_max_frames", type=int, default=None, help="of each validation sequence")
    group.add_argument("--eval_max_sequences", type=int, default=None, help="only the first validation sequences")
    group.add_argument("--eval_intra_period", type=int, default=TrainConfig.eval_intra_period)
    add_flag(group, "skip_eval", False, "no validation: no best.pt either")
    add_flag(group, "use_scheduler", False, "ReduceLROnPlateau on the validation loss")
    group.add_argument("--scheduler_factor", type=float, default=TrainConfig.scheduler_factor)
    group.add_argument("--scheduler_patience", type=int, default=TrainConfig.scheduler_patience)
    group.add_argument("--scheduler_min_lr", type=float, default=TrainConfig.scheduler_min_lr)


def _train_config(options: argparse.Namespace, preset: dict) -> TrainConfig:
    """TrainConfig from the flags; where none was given, from `preset`."""
    if options.lambda_value is not None and options.lambda_value <= 0:
        raise InputError(f"--lambda_value: found {options.lambda_value:g}, needed more than 0")
    given = options.given | ({"lambda_value"} if "quality_index" in options.given else set())
    values = _merged(TrainConfig, options, preset, given)
    if "lambda_value" in given or "lambda_value" not in preset:
        values["lambda_value"] = options.lambda_value or LAMBDAS[options.quality_index]
    return TrainConfig(**values)


def _merged(cls: type, options: argparse.Namespace, preset: dict, given: frozenset[str]) -> dict:
    """Fields of cls: a flag that was given, else the preset, else the flag's default."""
    values = dict(preset)
    for field in fields(cls):
        if hasattr(options, field.name) and (field.name in given or field.name not in preset):
            values[field.name] = getattr(options, field.name)
    return values


def _data_config(options: argparse.Namespace, preset: dict) -> DataConfig:
    values = _merged(DataConfig, options, preset, options.given)
    sampling = {**preset.get("sampling", {}), **key_values("--sampling", options.sampling)}
    return DataConfig(**{**values, "train_video_dir": tuple(values["train_video_dir"]),
                         "sampling": from_dict(SamplingOptions, sampling, "--sampling")})


def _intra_config(options: argparse.Namespace) -> IntraConfig:
    return IntraConfig(**{name: getattr(options, flag) for name, flag in INTRA_FLAGS.items()})


def job_from(options: argparse.Namespace):
    """Flags -> a Job of one stage. Raises InputError for values that do not go together."""
    from dcvc.training.job import Job

    for name in ("set", "lambdas", "dry_run"):
        if name in options.given:
            raise InputError(f"--{name}: found without --recipe, needed with it")
    if options.stage4_gop_opt and options.stage < 4:
        raise InputError(f"--stage4_gop_opt: found with --stage {options.stage}, needed --stage 4 or 5")
    default_gop = STAGES[options.stage].gop_size
    gop_size = default_gop if options.gop_size is None else options.gop_size
    return Job(
        stage=stage(options.stage, gop_size=gop_size, learning_rate=options.learning_rate, epochs=options.epochs,
                    max_steps=options.max_steps, cascaded=options.stage4_gop_opt),
        data=_data_config(options, {}), intra=_intra_config(options), train=_train_config(options, {}),
        checkpoint_dir=Path(options.checkpoint_dir), inter=MODEL_SIZES[options.model_size], resume=options.resume,
        load_pretrained=options.load_pretrained, force_learning_rate=options.force_learning_rate,
        device=options.device, quiet=options.quiet, accept_changes=options.accept_changes)


def _changed_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe named, changed by --set and by the flags of a stage, which reach every stage."""
    for name in ("stage", "gop_size", "resume", "force_learning_rate"):
        if name in options.given:
            raise InputError(f"--{name}: found with --recipe, which has stages of its own and continues by itself; "
                             "leave it out (--set changes a stage)")
    recipe = change_recipe(load_recipe(options.recipe), options.set)
    flags = [f"{name}={getattr(options, name)}" for name in ("learning_rate", "epochs", "max_steps", "model_size")
             if name in options.given]
    recipe = change_recipe(recipe, flags)
    if options.stage4_gop_opt:
        recipe = replace(recipe, stages=tuple(replace(item, cascaded=item.number >= 4) for item in recipe.stages))
    return recipe


def recipe_job_from(options: argparse.Namespace):
    """Flags -> a RecipeJob. Raises InputError."""
    from dcvc.training.recipe_run import RecipeJob

    recipe = _changed_recipe(options)
    if options.lambdas is not None and options.given & {"lambda_value", "quality_index"}:
        raise InputError("--lambdas: found with --lambda_value or --quality_index, needed one of them")
    if options.train_video_dir and not options.given & {"use_video_dataset", "vimeo_dir"}:
        options.use_video_dataset = True
    own = recipe.vqgan is not None and not options.given & set(INTRA_FLAGS.values())
    return RecipeJob(
        recipe, _data_config(options, recipe.data), None if own else _intra_config(options),
        _train_config(options, recipe.train), Path(options.checkpoint_dir),
        lambdas=None if options.lambdas is None else tuple(options.lambdas), load_pretrained=options.load_pretrained,
        device=options.device, quiet=options.quiet, accept_changes=options.accept_changes)


def run(options: argparse.Namespace) -> int:
    try:
        return _run_recipe(options) if options.recipe else _run_stage(options)
    finally:
        _leave_processes()


def _leave_processes() -> None:
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _run_recipe(options: argparse.Namespace) -> int:
    job = recipe_job_from(options)
    if options.dry_run:
        from dcvc.training.dry_run import dry_run

        print(dry_run(job))
        return 0
    from dcvc.training.recipe_run import run_recipe

    run_recipe(job, print)
    return 0


def _run_stage(options: argparse.Namespace) -> int:
    job = job_from(options)
    from dcvc.training.trainer import train_stage

    outcome = train_stage(job)
    best = "no validation" if outcome.best is None else f"best validation loss {outcome.best:.4f}"
    skipped = f", {outcome.skipped} left out as not finite" if outcome.skipped else ""
    if os.environ.get("RANK", "0") == "0":
        print(f"{job.stage.label}: {outcome.steps} steps done{skipped}, {best}, in {outcome.folder}")
    return 0
