"""The schedules of the light P-frame codec as data.

    light-s, -m, -l   ours: both codecs begin as transform codecs and learn together, each sample at
                      a quality of its own, in GOPs that grow; hours on a few CPU cores
    light-smoke       the same in a minute, to see that everything works
    perceptual        light-m trained on for what people see: from the boxed model's weights, the
                      P-frames alone; perceptual-s: light-s. Minutes to an hour on a few CPU cores
    uf-ld             the published schedule of DCVC-UF's low-delay model: 136 epochs of clips up to
                      129 frames, for many GPUs

lambda goes with the quality: its logarithm runs linearly from the lowest to the highest one.
"""

from dataclasses import replace

from dcvc.inter.light.config import NAME, TERMS
from dcvc.schedule import QUALITY_LAMBDAS, Recipe, Stage

# Ours multiply the mean squared error over RGB. The published ones multiply a sum over three
# planes, so they are a third of ours at the same rate.
LAMBDAS = QUALITY_LAMBDAS
PUBLISHED_LAMBDAS = (3.0, 2304.0)
# An I-frame is the reference of all that follow, of more frames than a training clip has.
FRAME_WEIGHTS = (2.0, 1.0)
# UF-LD: the memory finds a cycle of eight frames by these weights; P-frames 1 ... 8.
PUBLISHED_WEIGHTS = (1.0, 1.33, 0.52, 0.83, 0.52, 0.83, 0.52, 0.83, 0.52)

# What `--stage N` means: both codecs, the P-frame codec alone, and frame by frame as every codec begins.
_TOGETHER = Stage(
    number=1, gop_size=3, trains="intra+all", distortion="reconstruction", rate_terms=TERMS,
    cascaded=True, lambdas=LAMBDAS, frame_weights=FRAME_WEIGHTS, learning_rate=5e-4, epochs=1)
_P_FRAMES = replace(_TOGETHER, number=2, trains="all", learning_rate=1e-4)
_INTRA = replace(_TOGETHER, number=3, gop_size=1, trains="intra", rate_terms=())
STAGES: dict[int, Stage] = {stage.number: stage for stage in (_TOGETHER, _P_FRAMES, _INTRA)}


def _ours(name: str, size: str, steps: tuple[int, int]) -> Recipe:
    """GOPs of 3 and of 5 frames, so many steps each.

    No third stage of 7 frames: trained for 800 steps at 1e-4, sizes s and m both had a lower loss on
    their own clips and fell apart on longer ones, from 34 dB in the ninth frame to 21 in the
    thirteenth, whatever the content. Validation therefore goes beyond the frames that are trained.
    """
    # Short clips first: they show as many pixels in less time, and most is learned from them.
    grow = replace(_TOGETHER, epochs=None, crop_size=160, batch_size=6, max_steps=steps[0],
                   final_rate=0.6)
    # The first stage learns to code; what is rare in use comes when it can.
    later = {"jumps": 0.05, "refreshes": 0.05, "cuts": 0.05}
    return Recipe(
        name=name, codec=NAME, model_size=size, intra={"type": "light", "size": size},
        stages=(grow,
                replace(grow, gop_size=5, batch_size=4, max_steps=steps[1], learning_rate=3e-4,
                        final_rate=0.3, **later)),
        data={"num_workers": 1},
        train={"max_skips": 10, "max_rollbacks": 3, "use_ema": True, "eval_max_frames": 33,
               "eval_intra_period": 33, "eval_freq": 1_000_000})


def _perceptual(name: str, size: str) -> Recipe:
    """The P-frames of a boxed model, trained on for texture that is there and stays where it is.

    The weights of the terms: STSIM's distance is 30 to 70 times the squared error, so that with 0.2
    it is nearly all of D at every quality. With 0.02, at which both count the same at low
    qualities, nothing was gained there. Flicker is about half of the squared error; its weight
    keeps it below the start's. From one quality to the next D then changes ten times as much as the squared
    error does: a tenth of lambda keeps a quality's rate near to what it was.

    No adversary: it makes a step a third longer, and what it paints is not what STSIM counts. It can
    be added (docs/recipes.md).
    """
    stage = replace(
        _P_FRAMES, gop_size=5, epochs=None, max_steps=1200, crop_size=160, batch_size=2,
        learning_rate=5e-4, final_rate=0.1, warm_up=0.05, frame_weights=(1.0,), stepped=0.5,
        lambdas=tuple(value / 10 for value in LAMBDAS), added={"stsim": 0.2, "flicker": 8.0},
        adversary_share=0.1)
    return Recipe(
        name=name, codec=NAME, model_size=size, intra={"type": "light", "size": size},
        stages=(stage,), start=f"light-{size}", data={"num_workers": 1},
        train={"max_skips": 10, "max_rollbacks": 3, "use_ema": True, "ema_decay": 0.99,
               "eval_max_frames": 17, "eval_intra_period": 17, "eval_max_sequences": 3,
               "eval_freq": 1_000_000})


def _published() -> tuple[Stage, ...]:
    """DCVC-UF's training.md: (GOP, epochs, learning rate) of its four stages."""
    per_frame = ((2, 5, 1e-4), (3, 5, 1e-4), (6, 45, 1e-4))
    cascaded = (((8, 5, 5e-5), (16, 5, 5e-5), (24, 5, 5e-5), (32, 22, 5e-5)),
                ((33, 18, 5e-5), (49, 9, 2e-5), (65, 13, 5e-6)), ((97, 2, 2e-6), (129, 2, 5e-7)))
    one = replace(_P_FRAMES, lambdas=PUBLISHED_LAMBDAS, metric="geometric", optimizer="adamw",
                  frame_weights=PUBLISHED_WEIGHTS, crop_size=256)
    stages = [replace(one, gop_size=gop, epochs=epochs, learning_rate=rate, batch_size=16,
                      cascaded=False) for gop, epochs, rate in per_frame]
    samples = ({"batch_size": 8}, {"batch_size": 8, "crop_size": 512},
               {"batch_size": 4, "crop_size": 512})
    for kinds, sizes in zip(cascaded, samples, strict=True):
        stages += [replace(one, gop_size=gop, epochs=epochs, learning_rate=rate,
                           long_sequences=True, **sizes) for gop, epochs, rate in kinds]
    return tuple(stages)


RECIPES: dict[str, Recipe] = {
    "light-s": _ours("light-s", "s", (4000, 1800)),
    "light-m": _ours("light-m", "m", (4000, 1800)),
    "light-l": _ours("light-l", "l", (60_000, 30_000)),
    "light-smoke": replace(
        _ours("light-smoke", "s", (12, 6)),
        train={"max_skips": 10, "max_rollbacks": 3, "use_ema": True, "ema_decay": 0.9,
               "eval_freq": 1_000_000, "eval_max_frames": 3, "eval_max_sequences": 1,
               "eval_qualities": (16.0, 48.0), "log_every": 2},
        data={"num_workers": 1, "crop_size": 64, "batch_size": 2}),
    "perceptual": _perceptual("perceptual", "m"),
    "perceptual-s": _perceptual("perceptual-s", "s"),
    "uf-ld": Recipe(
        name="uf-ld", codec=NAME, model_size="uf-ld", stages=_published(),
        train={"grad_clip_max_norm": 0.2, "activation_checkpointing": True, "max_skips": 1000}),
}
RECIPES["light-smoke"] = replace(RECIPES["light-smoke"], stages=tuple(
    replace(stage, crop_size=None, batch_size=None) for stage in RECIPES["light-smoke"].stages))
