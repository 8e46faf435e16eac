"""What tuning brought, in numbers that a user can check on the report: BD rates, bytes an hour."""

from dataclasses import asdict, dataclass
from typing import Any

from dcvc.report.bd import bd
from dcvc.report.results import curves

# What encoders and models alike are trained or tuned for here, and what readers know best.
METRIC = "psnr"


@dataclass(frozen=True)
class Summary:
    """saving: % of the bits that the tuned model saves against the model it began as, at equal PSNR,
    of the mean curve; None where the curves cannot be compared, for the reason in `problem`.
    sequences: the same for each clip. against: {"x264": {"before": % more bits, "after": ...}, ...},
    and in "…_db" the PSNR at equal rate. bytes_an_hour: before and after, at the same PSNR, `psnr`.
    pictures: height and width of each picture of a place that the tuned model holds."""

    name: str
    saving: float | None
    problem: str
    sequences: dict[str, float | None]
    against: dict[str, dict[str, float | None]]
    against_db: dict[str, dict[str, float | None]]
    psnr: float
    bytes_an_hour: tuple[float, float | None]
    pictures: tuple[tuple[int, int], ...] = ()

    @property
    def better(self) -> bool:
        return self.saving is not None and self.saving > 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "better": self.better}

    @property
    def text(self) -> str:
        lines = []
        if self.saving is None:
            lines.append(f"before and after cannot be compared: {self.problem}; {self.name} is kept")
        else:
            verdict = "saves" if self.better else "does not help, and the model stays as it was:"
            lines.append(f"tuning {verdict} {self.saving:.1f} % of the bits at equal PSNR, on frames "
                         "that were held out")
        # Bits are hard to picture, what a disk or a month's traffic holds is not.
        if self.better:
            before, after = self.bytes_an_hour
            lines.append(f"an hour of this video at {self.psnr:.1f} dB: {before / 1e6:.1f} MB before, "
                         f"{after / 1e6:.1f} MB after")
        # Whoever passes the model on should know that pictures of the place go with it.
        if self.better and self.pictures:
            size = sum(3 * height * width for height, width in self.pictures)
            sizes = ", ".join(f"{width}x{height}" for height, width in self.pictures)
            lines.append(f"the model holds {len(self.pictures)} picture(s) of places it knows ({sizes}, "
                         f"{size / 1e6:.1f} MB), which its I-frames are coded from")
        for clip, saving in self.sequences.items():
            lines.append(f"  {clip}: " + ("no number" if saving is None else f"{saving:+.1f} % saved"))
        for anchor, rates in self.against.items():
            told = [f"{when} {_percent(rates[when])} rate, {_decibels(self.against_db[anchor][when])}"
                    for when in ("before", "after")]
            lines.append(f"against {anchor} (medium, low delay): " + "; ".join(told))
        return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "no number for the" if value is None else f"{value:+.1f} %"


def _decibels(value: float | None) -> str:
    return "no common rates" if value is None else f"{value:+.2f} dB"


def summarise(before: dict[str, Any], after: dict[str, Any], anchors: dict[str, Any],
              pictures: tuple[tuple[int, int], ...] = ()) -> Summary:
    """Of three results tables (dcvc.report.results) of the same sequences."""
    # The mean curve decides: one clip that gains much must not hide three that lose.
    name = before["points"][0]["codec"]
    mean = {"before": _curve(before), "after": _curve(after)}
    delta = bd(mean["before"], mean["after"])
    # Clip by clip, for a mean may be that of one that knows the place and one that does not.
    sequences = {}
    for row in before["sequences"]:
        rate = bd(_curve(before, row["name"]), _curve(after, row["name"])).bd_rate
        sequences[row["name"]] = None if rate is None else -rate
    # The anchor is what is compared against, so a positive rate means more bits than it needs.
    against, against_db = {}, {}
    for anchor, points in curves(anchors["points"], METRIC).items():
        deltas = {when: bd(points, curve) for when, curve in mean.items()}
        against[anchor] = {when: found.bd_rate for when, found in deltas.items()}
        against_db[anchor] = {when: found.bd_quality for when, found in deltas.items()}
    # A quality that one would use: neither the lowest nor the highest of the curve.
    middle = before["points"][len(before["points"]) // 2]
    hour = _bytes_an_hour(middle, before["sequences"])
    saving = None if delta.bd_rate is None else -delta.bd_rate
    return Summary(
        name=name, saving=saving, problem=delta.problem, sequences=sequences, against=against,
        against_db=against_db, psnr=middle["mean"][METRIC],
        bytes_an_hour=(hour, None if saving is None else hour * (1 - saving / 100)),
        pictures=pictures)


def _curve(table: dict[str, Any], sequence: str | None = None) -> list[tuple[float, float]]:
    # A table of `dcvc tune` holds one codec.
    (found,) = curves(table["points"], METRIC, sequence).values()
    return found


def _bytes_an_hour(point: dict[str, Any], sequences: list[dict[str, Any]]) -> float:
    """Of the mean sequence, by its size and frame rate."""
    # A video without a frame rate is counted at the one that is usual.
    rates = [row["bpp"] * one["width"] * one["height"] * (one["fps"] or 25) / 8 * 3600
             for row, one in zip(point["sequences"], sequences, strict=True)]
    return sum(rates) / len(rates)
