"""Pictures drawn with matplotlib: learning curves, frames side by side, rate-distortion curves."""

import json
from pathlib import Path

import numpy as np

from dcvc.files import replaced
from dcvc.report.results import curves


def _pyplot():
    import matplotlib  # late: the page is made without it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure, path: Path) -> Path:
    with replaced(path) as partial:
        figure.savefig(partial, dpi=110, bbox_inches="tight")
    return path


def read_metrics(folder: Path, kind: str) -> list[dict]:
    """The lines of a stage's metrics.jsonl of one kind: "train" or "val"."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["kind"] == kind]


# Told apart by colour-blind eyes too (Paul Tol's bright scheme, without the green of the PSNR).
TERM_COLOURS = ("#4477aa", "#66ccee", "#ee6677", "#ccbb44", "#aa3377", "#bbbbbb")


def draw_curves(stage_folders: list[Path], path: Path) -> Path:
    """Training PSNR and bpp by term over all stages in turn; their borders are marked."""
    pyplot = _pyplot()
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(9, 5.5), sharex=True)
    done, ticks = 0, []
    # A term keeps the colour that it got in the first stage which counts it.
    colours: dict[str, str] = {}
    for folder in stage_folders:
        rows = read_metrics(folder, "train")
        if not rows:
            continue
        steps = [done + row["step"] for row in rows]
        # A short stage's few values would be no line.
        dots = {"marker": "." if len(rows) < 20 else ""}
        top.plot(steps, [row["psnr"] for row in rows], color="#228833", **dots)
        for name in (name for name in rows[0] if name.startswith("bpp_")):
            term = name.removeprefix("bpp_")
            colour = colours.setdefault(term, TERM_COLOURS[len(colours) % len(TERM_COLOURS)])
            bottom.plot(steps, [row[name] for row in rows], color=colour, label=term, **dots)
        ticks.append(((done + steps[-1]) / 2, folder.name.replace("_", "\n")))
        done = steps[-1]
        for axis in (top, bottom):
            axis.axvline(done, color="0.8", linewidth=0.8)
    top.set_ylabel("PSNR of what the stage\ndistorts, dB")
    bottom.set_ylabel("bpp (estimate)")
    bottom.set_yscale("log")
    handles, labels = bottom.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    bottom.legend(unique.values(), unique.keys(), ncols=4, loc="lower right", bbox_to_anchor=(1, 1),
                  fontsize=8, frameon=False)
    bottom.set_xticks([position for position, _ in ticks], [name for _, name in ticks], fontsize=8)
    saved = _save(figure, path)
    pyplot.close(figure)
    return saved


def draw_frames(rows: list[tuple[str, np.ndarray]], path: Path, columns: int = 4) -> Path:
    """Titled frames `(H, W, 3)` uint8 in a grid."""
    pyplot = _pyplot()
    lines = -(-len(rows) // columns)
    height, width = rows[0][1].shape[:2]
    figure, axes = pyplot.subplots(lines, columns,
                                   figsize=(3.2 * columns, (3.2 * height / width + 0.4) * lines))
    axes = np.atleast_1d(axes).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (title, frame) in zip(axes, rows, strict=False):
        axis.imshow(frame, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    saved = _save(figure, path)
    pyplot.close(figure)
    return saved


def draw_rate_distortion(points: list[dict], path: str | Path) -> Path:
    """Every codec's curve of some results points, one plot for each metric that was measured. A
    codec whose bits are estimates says so in the legend."""
    names = {"psnr": "RGB PSNR, dB", "ms_ssim": "MS-SSIM", "lpips": "LPIPS (lower is better)",
             "dists": "DISTS (lower is better)",
             "stsim": "STSIM"}
    metrics = [name for name in names if any(name in point["mean"] for point in points)]
    estimates = {point["codec"] for point in points if point["rates"] == "estimate"}
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, len(metrics), figsize=(5.2 * len(metrics), 4), squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for number, (codec, curve) in enumerate(curves(points, metric).items()):
            label = f"{codec} (estimate)" if codec in estimates else codec
            axis.plot(*zip(*curve, strict=True), marker="os^Dv"[number % 5], label=label, alpha=0.9)
        axis.set_xlabel("bits per pixel")
        axis.set_ylabel(names[metric])
        axis.grid(color="0.9")
    axes[0][0].legend(fontsize=8)
    saved = _save(figure, Path(path))
    pyplot.close(figure)
    return saved
