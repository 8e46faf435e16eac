"""How `dcvc encode` is told how many bits to spend: by a quality, or by what shall come of it.

    --quality 32                of a model with many rates: the default is its middle
    --bitrate 500k              bits per second (k = 1,000, M = 1,000,000)
    --bpp 0.05                  bits per pixel
    --size 20MB                 bytes of the whole file (kB, MB, GB; KiB, MiB, GiB)
    --psnr 36                   decibels, of RGB, the mean over the clip
"""

import argparse
import re
from dataclasses import dataclass

from dcvc.codec.quality_steps import Steps, parse_steps
from dcvc.errors import InputError

RATE_OPTIONS = ("quality", "bitrate", "bpp", "size", "psnr")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z/]*)")
_BITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9,
          "k": 10**3, "m": 10**6, "g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
# What a stream takes besides its frames, of a clip of some GOPs: header, end and index.
AROUND_BITS = 8 * 80


@dataclass(frozen=True)
class RateRequest:
    """option: one of RATE_OPTIONS but quality; text: as it was given; value: in bits per second,
    bits per pixel, bytes or decibels."""

    option: str
    text: str
    value: float

    @property
    def asked(self) -> str:
        return f"--{self.option} {self.text}"

    def bits_a_frame(self, pixels: int, fps: float, frames: int) -> float:
        """Raises InputError for a size of a clip whose length is not known."""
        if self.option == "bpp":
            return self.value * pixels
        if self.option == "bitrate":
            return self.value / fps
        if not frames:
            raise InputError(f"{self.asked}: how many frames come is not known of a pipe; give "
                             "--bitrate, or a file")
        return max(8 * self.value - AROUND_BITS, 1.0) / frames

    def unit(self, pixels: int, fps: float, frames: int) -> tuple[float, str]:
        """What one bit a frame is in the option's unit, and its name."""
        return {"bpp": (1 / pixels, "bits per pixel"), "bitrate": (fps / 1000, "kbit/s"),
                "size": (frames / 8 / 10**6, "MB")}[self.option]


def add_quality_steps(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--quality_steps", metavar="I,P,P,...", default="own",
                        help="what the I-frame and the P-frames behind it get above or below "
                             "the clip's quality, as in 12,-4,0,-4,4; flat: nothing (default: the model's own)")


def steps_from(options: argparse.Namespace) -> Steps | None:
    """None: the model's own. Raises InputError."""
    return None if options.quality_steps == "own" else parse_steps(options.quality_steps)


def add_rates(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how many bits to spend (one of these)")
    group.add_argument("--quality", type=float, metavar="Q",
                       help="of a model with many rates: 0 to 63, higher is better, in quarter "
                            "steps (default: the model's middle)")
    add_quality_steps(group)
    group.add_argument("--bitrate", metavar="RATE", help="bits per second: 500k, 1.5M")
    group.add_argument("--bpp", metavar="X", help="bits per pixel: 0.05")
    group.add_argument("--size", metavar="SIZE", help="of the whole file: 20MB")
    group.add_argument("--psnr", metavar="DB", help="of RGB, the mean over the clip: 36")
    group.add_argument("--two_pass", action="store_true",
                       help="code a file twice: the first time tells what each frame takes")


def rate_from(options: argparse.Namespace) -> RateRequest | None:
    """None where a quality is given, or nothing. Raises InputError for two at once and for what is
    no rate."""
    given = [name for name in RATE_OPTIONS if getattr(options, name) is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join('--' + name for name in given)}: found {len(given)} "
                         "targets, needed one")
    if not given or given == ["quality"]:
        if options.two_pass:
            raise InputError("--two_pass: needs --bitrate, --bpp or --size; a quality needs one pass")
        return None
    option, text = given[0], getattr(options, given[0])
    if option == "psnr" and steps_from(options) is not None:
        raise InputError("--quality_steps: found with --psnr, which gives all frames the same PSNR; "
                         "leave it out")
    if option == "psnr" and options.two_pass:
        raise InputError("--two_pass: found with --psnr, which needs one pass; leave it out")
    units = {"bitrate": _BITS, "size": _BYTES}.get(option, {"": 1})
    return RateRequest(option, text, _value(option, text, units))


def bits_per_second(text: str) -> float:
    """What --bitrate means. Raises InputError for what is no rate."""
    return _value("bitrate", text, _BITS)


def _value(option: str, text: str, units: dict[str, float]) -> float:
    examples = {"bitrate": "bits per second such as 500k or 1.5M", "bpp": "bits per pixel such as 0.05",
                "size": "bytes such as 20MB or 800kB", "psnr": "decibels such as 36"}
    found = _NUMBER.fullmatch(text.strip())
    unit = found[2].lower().removesuffix("/s").removesuffix("bit").removesuffix("bps") if found else None
    if option == "size" and found:
        unit = found[2].lower()
    if not found or unit not in units or not float(found[1]) * units[unit] > 0:
        raise InputError(f"--{option}: found {text!r}, needed {examples[option]}, above 0")
    return float(found[1]) * units[unit]
