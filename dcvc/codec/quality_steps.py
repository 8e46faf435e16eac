"""What frames get above or below the quality that is asked for, by their place in a GOP.

    quality 32, steps (12, -4, 0, -4, 4)
    frame         0 (I)   1    2    3    4    5    6    7    8    9 ...
    coded at         44  28   32   28   36   28   32   28   36   28

What one frame gets wrong is inherited by all that refer to it, so bits are best spent where many
frames follow: most of them in the I-frame, more in every fourth P-frame than between. That is the
hierarchical quality of low-delay configurations of H.266 (VTM), and of DCVC since Li, Li, Lu:
"Neural Video Compression with Diverse Contexts", CVPR 2023, where training taught it to the
codec. Here the codec has learned qualities that change, and the encoder chooses.
"""

from dataclasses import dataclass

from dcvc.errors import InputError

# For the I-frame, then for the P-frames behind it, which begin anew after the last one.
Steps = tuple[float, ...]
FLAT: Steps = (0.0, 0.0)
# As far as any quality is from another.
LARGEST_STEP = 63


@dataclass(frozen=True)
class SteppedQuality:
    """A quality for a clip, and the steps around it."""

    quality: float
    steps: Steps

    def at(self, since_i_frame: int) -> float:
        """May be out of the codec's range."""
        return self.quality + step_at(self.steps, since_i_frame)


def step_at(steps: Steps, since_i_frame: int) -> float:
    """0: the I-frame itself, 1: the first P-frame behind it."""
    first, *behind = steps
    # They begin anew behind the last one, and behind each I-frame.
    return behind[(since_i_frame - 1) % len(behind)] if since_i_frame else first


def parse_steps(text: str) -> Steps:
    """"12,-4,0,-4,4", or "flat". Raises InputError."""
    if text == "flat":
        return FLAT
    try:
        steps = tuple(map(float, text.split(",")))
    except ValueError:
        steps = ()
    # A comparison that NaN fails too.
    if len(steps) < 2 or not all(abs(step) <= LARGEST_STEP for step in steps):
        raise InputError(f"--quality_steps: found '{text}', needed own, flat, or numbers of "
                         f"-{LARGEST_STEP}...{LARGEST_STEP} for the I-frame and the P-frames behind "
                         "it, as in 12,-4,0,-4,4")
    return steps


def steps_text(steps: Steps) -> str:
    return ",".join(f"{step:g}" for step in steps)
