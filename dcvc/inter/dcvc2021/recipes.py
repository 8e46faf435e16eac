"""The schedule of DCVC-2021 as data: its stages, lambdas and recipes.

The stages are the community's protocol (Li, Li, Lu, NeurIPS 2021, section 4.1; public trainers):

    1  motion      the flow and its latents learn to predict the frame; no reconstruction yet
    2  contextual  the contextual coder learns to reconstruct, its rate not counted
    3  contextual  ... now with its rate
    4  all         everything together
    5  all         everything together on long sequences

Within a stage the GOP grows and the learning rate starts anew.
"""

from dataclasses import replace

from dcvc.errors import InputError
from dcvc.inter.dcvc2021.config import NAME
from dcvc.schedule import Recipe, Stage, curriculum

MOTION_TERMS = ("mv_y", "mv_z")
CONTEXT_TERMS = ("y", "z")
ALL_TERMS = MOTION_TERMS + CONTEXT_TERMS
LAMBDAS = (256.0, 512.0, 1024.0, 2048.0)
# The motion branch has 0.49 of the 1,116 kMAC that a P-frame costs per pixel (counted from the
# published shapes).
MOTION_SHARE = 0.49


def _stage(number: int, trains: str, rate_terms: tuple[str, ...],
           distortion: str = "reconstruction", gop_size: int = 2,
           long_sequences: bool = False) -> Stage:
    return Stage(number=number, gop_size=gop_size, trains=trains, distortion=distortion,
                 rate_terms=rate_terms, long_sequences=long_sequences)


STAGES: dict[int, Stage] = {
    1: _stage(1, "motion", MOTION_TERMS, distortion="prediction"),
    2: _stage(2, "contextual", ()),
    3: _stage(3, "contextual", CONTEXT_TERMS),
    4: _stage(4, "all", ALL_TERMS),
    5: _stage(5, "all", ALL_TERMS, gop_size=32, long_sequences=True),
}


def stage(number: int, **changes) -> Stage:
    """The stage of that number with other settings, e.g. `stage(4, gop_size=7, cascaded=True)`."""
    if number not in STAGES:
        raise InputError(f"stage: found {number}, needed one of {', '.join(map(str, STAGES))}")
    return replace(STAGES[number], **changes)


def work(item: Stage) -> float:
    """Arithmetic of one sample, in forward passes of one P-frame of the whole network."""
    # A backward pass costs two forward ones. The contextual stages run the frozen motion branch
    # forward only.
    per_frame = {"motion": 3 * MOTION_SHARE, "all": 3.0,
                 "contextual": MOTION_SHARE + 3 * (1 - MOTION_SHARE)}
    return (item.gop_size - 1) * per_frame[item.trains]


def _short(steps: tuple[int, ...], learning_rate: float) -> tuple[Stage, ...]:
    """Stages 1 to 4 at GOP 2 and a cascaded GOP 3, so many steps each."""
    kinds = ((1, 2), (2, 2), (3, 2), (4, 2), (4, 3))
    return tuple(stage(number, gop_size=gop, cascaded=gop > 2, learning_rate=learning_rate,
                       epochs=None, max_steps=count)
                 for (number, gop), count in zip(kinds, steps, strict=True))


def _demo() -> tuple[Stage, ...]:
    """The stages of `dcvc demo`: (stage, GOP, steps)."""
    kinds = ((1, 2, 150), (2, 2, 150), (3, 2, 100), (4, 2, 100), (4, 3, 150), (4, 5, 300))
    small = tuple(stage(number, gop_size=gop, learning_rate=1e-3, epochs=1_000_000, max_steps=steps,
                        cascaded=gop > 2, crop_size=64, batch_size=2)
                  for number, gop, steps in kinds)
    # The last stage sees latents of more than borders: a latent of a 64x64 crop is 4x4, where every
    # 5x5 window hangs over an edge. After such crops alone the context model fails on whole frames.
    return (*small, replace(small[-1], gop_size=7, max_steps=90, crop_size=128, batch_size=1))


# Loss or gradients that are not finite: skip up to ten steps in a row, go back at half the rate,
# three times at most.
GUARDED = {"max_skips": 10, "max_rollbacks": 3}
# Steps end these recipes before a periodic evaluation would come.
_NEVER = 1_000_000
_SMALL = {"crop_size": 64, "batch_size": 8, "num_workers": 1}
# Of several lambdas the later ones start from the first one's last weights and train everything
# together only.
_PUBLISHED = Recipe(
    name=NAME, codec=NAME, model_size="full", later_lambdas_from=4, train=GUARDED,
    stages=curriculum(tuple(STAGES[number] for number in (1, 2, 3, 4)), (2, 3, 5, 7),
                      learning_rate=1e-4, epochs=10))

RECIPES: dict[str, Recipe] = {
    # The published protocol, and with its fifth stage.
    "dcvc2021": _PUBLISHED,
    "dcvc2021-long": replace(_PUBLISHED, name="dcvc2021-long", stages=(
        *_PUBLISHED.stages, stage(5, learning_rate=1e-5, epochs=10))),
    # For what people see, from weights that were trained on MSE (--load_pretrained).
    "perceptual-dcvc2021": replace(
        _PUBLISHED, name="perceptual-dcvc2021", start="needed",
        stages=(stage(4, gop_size=5, cascaded=True, learning_rate=5e-5, final_rate=0.1, warm_up=0.05,
                      added={"stsim": 0.02, "flicker": 1.0, "adversary": 1e-3, "features": 1e-3},
                      adversary_share=0.1),)),
    # To see that everything works on one's own videos; that a whole run works; `dcvc demo`.
    "tiny": replace(
        _PUBLISHED, name="tiny", model_size="tiny", stages=_short((150, 100, 150, 350, 150), 1e-3),
        data=_SMALL,
        train={**GUARDED, "lambda_value": 1024.0, "use_ema": True, "ema_decay": 0.98,
               "eval_freq": _NEVER, "eval_max_frames": 8}),
    "smoke": replace(
        _PUBLISHED, name="smoke", model_size="tiny", stages=_short((12, 6, 6, 20, 6), 2e-3),
        vqgan="demo", vqgan_steps=60, data={**_SMALL, "batch_size": 4},
        train={**GUARDED, "lambda_value": 1024.0, "use_ema": True, "ema_decay": 0.9,
               "eval_freq": _NEVER, "eval_max_frames": 2, "eval_max_sequences": 1, "log_every": 2}),
    "demo": replace(
        _PUBLISHED, name="demo", model_size="tiny", stages=_demo(), vqgan="demo",
        data={"crop_size": 64, "batch_size": 4, "num_workers": 1},
        train={"lambda_value": 2560.0, "use_ema": True, "ema_decay": 0.98, "eval_freq": _NEVER,
               "eval_max_frames": 8, "eval_intra_period": 8}),
}
