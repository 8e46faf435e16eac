"""The VQGAN of a recipe that names no I-frame codec: trained first, in the run's own folder."""

import json
from collections.abc import Callable
from dataclasses import fields, replace

from dcvc.files import write_text
from dcvc.intra.config import IntraConfig
from dcvc.models.run_folder import kept_checkpoints
from dcvc.training.config import SafetyOptions
from dcvc.training.recipe_run import RecipeJob
from dcvc.training.vqgan.config import VQGAN_PRESETS
from dcvc.training.vqgan.trainer import train_vqgan


def train_recipe_vqgan(job: RecipeJob, tell: Callable[[str], None]) -> IntraConfig:
    """Train the recipe's VQGAN, or go on with it, or find it done -> the configuration that names
    its files."""
    folder = job.run / "vqgan"
    preset = VQGAN_PRESETS[job.recipe.vqgan]
    steps = job.recipe.vqgan_steps or preset.steps
    # A recipe's own limits of skips and rollbacks hold for its I-frame codec too.
    safety = {field.name: getattr(job.train, field.name) for field in fields(SafetyOptions)}
    # A short training still gets codes: at the latest half-way.
    config = replace(preset, steps=steps, batch_size=job.data.batch_size,
                     num_workers=job.data.num_workers,
                     quantize_from=min(preset.quantize_from, steps // 2), **safety)
    # Beside the checkpoints a mark of its own: latest.pt does not say how long the recipe wants it.
    done = folder / "done.json"
    if not done.is_file():
        tell(f"training the I-frame codec, a VQGAN ({job.recipe.vqgan}), {config.steps} steps")
        trained = train_vqgan(
            config, list(job.data.train_video_dir), folder, seed=job.train.seed, device=job.device,
            resume=bool(kept_checkpoints(folder)), quiet=job.quiet)
        write_text(done, json.dumps(trained.numbers) + "\n")
    return IntraConfig(type="vqgan", vqgan_config=str(folder / "vqgan.json"),
                       vqgan_checkpoint=str(folder / "vqgan.pt"))
