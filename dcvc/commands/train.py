"""Train the P-frame codec: all stages of a recipe (--recipe), or one stage."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag, add_options, read_options
from dcvc.commands.options import (
    INTRA_FLAGS,
    add_intra,
    add_p_frame,
    add_video_access,
    intra_from,
)
from dcvc.commands.output import check_target
from dcvc.config import from_dict
from dcvc.data.config import DataConfig, SamplingOptions
from dcvc.device.cores import usable_cores
from dcvc.errors import InputError
from dcvc.inter.registry import all_recipes, codec_entry, codec_names
from dcvc.intra.config import IntraConfig
from dcvc.schedule import Recipe, Stage
from dcvc.training.config import TrainConfig
from dcvc.training.recipe_file import change_recipe, key_values, load_recipe

OPTIMISATION = ("seed", "mixed_precision", "gradient_accumulation_steps", "grad_clip_max_norm",
                "use_ema", "ema_decay", "compile", "activation_checkpointing", "checkpoint_minutes",
                "keep_checkpoints", "max_skips", "max_rollbacks", "rollback_factor", "log_every", "wandb",
                "lpips_weights", "dists_weights")
VALIDATION = ("eval_freq", "eval_max_frames", "eval_max_sequences", "eval_intra_period", "skip_eval",
              "use_scheduler", "scheduler_factor", "scheduler_patience", "scheduler_min_lr")
DATA = ("use_video_dataset", "train_video_dir", "val_video_dir", "vimeo_dir", "septuplet_list",
        "bvi_aom_dir", "hevc_b_dir", "crop_size", "batch_size", "num_workers")
# Of the sampling options, those that are flags of their own.
MIXED = ("small_videos", "short_videos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser.add_argument_group(
        "recipe: all stages by one command; the same command continues it after a stop"))
    _data_arguments(parser.add_argument_group("data"))
    add_intra(parser.add_argument_group("I-frame codec"))
    _stage_arguments(parser.add_argument_group("stage"))
    _run_arguments(parser.add_argument_group("run"))
    add_options(parser.add_argument_group("validation and learning rate"), TrainConfig, VALIDATION)


def _recipe_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--recipe", help=f"{', '.join(all_recipes())}, or a .json or .toml file")
    group.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="change the recipe: max_steps=500, stage4.learning_rate=5e-5, "
                            "batch_size=8 …")
    group.add_argument("--lambdas", nargs="*", type=float, metavar="L",
                       help="train one codec for each lambda; all but the first start from the "
                            "first one's weights")
    add_flag(group, "dry_run", False,
             "print the recipe's stages with estimated times, and train nothing")
    add_flag(group, "accept_changes", False, "continue a run that was begun with other settings")


def _data_arguments(group: argparse._ArgumentGroup) -> None:
    add_options(group, DataConfig, DATA, num_workers={"default": min(4, usable_cores())})
    add_video_access(group)
    group.add_argument("--sampling", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="how GOPs are drawn from videos: crops_per_read=4, on_bad_video=skip, "
                            "stride=2, rescale=[256,512] … (docs/data.md)")
    add_options(group, SamplingOptions, MIXED)


def _stage_arguments(group: argparse._ArgumentGroup) -> None:
    numbers = sorted({number for name in codec_names() for number in codec_entry(name).stages})
    lambdas = codec_entry().lambdas
    numbered = ", ".join(f"{number} is {value:g}" for number, value in enumerate(lambdas))
    add_p_frame(group)
    group.add_argument("--stage", type=int, choices=numbers, default=4,
                       help="number of the stage to train")
    group.add_argument("--gop_size", type=int,
                       help="frames of a training sample (default: the stage's own)")
    add_options(group, Stage, ("learning_rate", "epochs", "max_steps"))
    add_options(group, TrainConfig, ("lambda_value",), lambda_value={"default": None})
    group.add_argument("--quality_index", type=int, choices=range(len(lambdas)),
                       default=len(lambdas) - 1, help=f"lambda by its number: {numbered}")
    add_flag(group, "force_learning_rate", False,
             "with --resume: --learning_rate counts, not the checkpoint's")
    add_flag(group, "stage4_gop_opt", False,
             "stages that train everything (4, 5): one update for a whole GOP, with gradients "
             "through its references")


def _run_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint_dir", default="checkpoints", help="the run folder")
    group.add_argument("--resume", nargs="?", const="auto", metavar="FILE",
                       help="continue this stage from its latest.pt, or from the file given")
    group.add_argument("--load_pretrained", metavar="FILE",
                       help="start from these weights: a run folder, or a file of this project, "
                            "of Microsoft's DCVC-2021 or of OpenDCVCs; an I-frame codec that they "
                            "hold is taken unless another one is given")
    add_options(group, TrainConfig, OPTIMISATION)
    add_device(group)
    add_flag(group, "quiet", False, "no progress line")


def _intra(options: argparse.Namespace) -> IntraConfig:
    """The I-frame codec of the flags; without any, the one that the first weights bring along."""
    carried = None
    if options.load_pretrained and not options.given & set(INTRA_FLAGS):
        from dcvc.checkpoint import carried_intra  # late: --help starts without it

        carried = carried_intra(options.load_pretrained)
    return carried or intra_from(options)


def _train_config(options: argparse.Namespace, preset: dict,
                  lambdas: tuple[float, ...]) -> TrainConfig:
    """TrainConfig from the flags; where none was given, from `preset`."""
    values = read_options(TrainConfig, options, preset)
    by_index = "quality_index" in options.given or "lambda_value" not in preset
    if by_index and "lambda_value" not in options.given:
        values["lambda_value"] = lambdas[options.quality_index]
    return TrainConfig(**values)


def _data_config(options: argparse.Namespace, preset: dict) -> DataConfig:
    flags = {name: getattr(options, name) for name in MIXED if name in options.given}
    sampling = {**preset.get("sampling", {}), **key_values("--sampling", options.sampling), **flags}
    values = read_options(DataConfig, options, preset)
    values["sampling"] = from_dict(SamplingOptions, sampling, "--sampling")
    return from_dict(DataConfig, values)


def job_from(options: argparse.Namespace):
    """Flags -> a Job of one stage. Raises InputError for values that do not go together."""
    from dcvc.training.job import Job

    for name in ("set", "lambdas", "dry_run"):
        if name in options.given:
            raise InputError(f"--{name}: found without --recipe, needed with it")
    entry = codec_entry(options.codec)
    entry.require_stages()
    if options.stage not in entry.stages:
        raise InputError(f"--stage: found {options.stage}, {entry.name} has "
                         f"{', '.join(map(str, entry.stages))}")
    known = entry.stages[options.stage]
    whole = [number for number, item in entry.stages.items() if item.trains == "all"]
    if options.stage4_gop_opt and options.stage not in whole:
        raise InputError(f"--stage4_gop_opt: found with --stage {options.stage}, needed --stage "
                         f"{' or '.join(map(str, whole))}")
    gop_size = known.gop_size if options.gop_size is None else options.gop_size
    return Job(
        stage=replace(known, gop_size=gop_size, learning_rate=options.learning_rate,
                      epochs=options.epochs, max_steps=options.max_steps,
                      cascaded=known.cascaded or options.stage4_gop_opt),
        data=_data_config(options, {}), intra=_intra(options),
        train=_train_config(options, {}, entry.lambdas), checkpoint_dir=Path(options.checkpoint_dir),
        inter=entry.size(options.model_size or entry.default_size), resume=options.resume,
        load_pretrained=options.load_pretrained, force_learning_rate=options.force_learning_rate,
        device=options.device, quiet=options.quiet, accept_changes=options.accept_changes)


def _changed_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe named, changed by --set and by the flags of a stage, which reach every stage."""
    for name in ("codec", "stage", "gop_size", "resume", "force_learning_rate"):
        if name in options.given:
            raise InputError(f"--{name}: found with --recipe, which has stages of its own and "
                             "continues by itself; leave it out (--set changes a stage)")
    recipe = change_recipe(load_recipe(options.recipe), options.set)
    flags = [f"{name}={getattr(options, name)}"
             for name in ("learning_rate", "epochs", "max_steps", "model_size")
             if name in options.given]
    recipe = change_recipe(recipe, flags)
    if options.stage4_gop_opt:
        recipe = replace(recipe, stages=tuple(replace(item, cascaded=item.trains == "all")
                                              for item in recipe.stages))
    return recipe


def _set_start(options: argparse.Namespace, recipe: Recipe) -> None:
    """A recipe may begin with the weights of another training, which a flag can replace."""
    if options.load_pretrained or recipe.start is None:
        return
    if recipe.start == "needed":
        raise InputError(f"--recipe {recipe.name}: found no weights to start from, needed "
                         "--load_pretrained MODEL, one that was trained on MSE")
    options.load_pretrained = recipe.start


def recipe_job_from(options: argparse.Namespace):
    """Flags -> a RecipeJob. Raises InputError."""
    from dcvc.training.recipe_run import RecipeJob

    recipe = _changed_recipe(options)
    _set_start(options, recipe)
    if options.lambdas is not None and options.given & {"lambda_value", "quality_index"}:
        raise InputError("--lambdas: found with --lambda_value or --quality_index, needed one of them")
    if options.train_video_dir and not options.given & {"use_video_dataset", "vimeo_dir"}:
        options.use_video_dataset = True
    chosen = bool(options.given & set(INTRA_FLAGS))
    own = recipe.vqgan is not None and not chosen
    if recipe.intra is not None and not chosen:
        intra = from_dict(IntraConfig, recipe.intra, f"{recipe.name}: intra")
    else:
        intra = None if own else _intra(options)
    return RecipeJob(
        recipe=recipe, data=_data_config(options, recipe.data),
        intra=intra,
        train=_train_config(options, recipe.train, codec_entry(recipe.codec).lambdas),
        run=Path(options.checkpoint_dir),
        lambdas=None if options.lambdas is None else tuple(options.lambdas),
        load_pretrained=options.load_pretrained, device=options.device, quiet=options.quiet,
        accept_changes=options.accept_changes)


def run(options: argparse.Namespace) -> int:
    if not options.dry_run:
        check_target(options, "checkpoint_dir", folder=True)
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
    from dcvc.training.vqgan.for_recipe import train_recipe_vqgan

    run_recipe(job, print, train_recipe_vqgan)
    return 0


def _run_stage(options: argparse.Namespace) -> int:
    job = job_from(options)
    from dcvc.training.trainer import train_stage

    outcome = train_stage(job)
    best = "no validation" if outcome.best is None else f"best validation loss {outcome.best:.4f}"
    skipped = f", {outcome.skipped} left out as not finite" if outcome.skipped else ""
    if os.environ.get("RANK", "0") == "0":
        from dcvc.checkpoint import give_ranges

        give_ranges(outcome.folder)
        done = f"{outcome.steps} steps done{skipped}"
        print(f"{job.stage.label}: {done}, {best}, in {outcome.folder}")
    return 0
