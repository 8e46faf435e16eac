"""One page at the end of a recipe: what was trained, how long it took, how it ended, its curves."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcvc.files import write_text
from dcvc.report.figures import draw_curves, read_metrics

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
body{background:#fff}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left}th{font-weight:600}
img{max-width:100%;background:#fff}.scroll{overflow-x:auto}h2{margin:2rem 0 .5rem;font-size:1.15rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}}"""
COLUMNS = ("stage", "steps", "minutes", "left out", "validation loss", "PSNR P, dB", "previous, dB",
           "bpp P", "bpp I")


def write_summary(run: Path, state: dict[str, Any], parts: Sequence[Any]) -> Path:
    """RUN/summary.html from recipe.json's state and the stages' metrics; it needs no network."""
    folders = list(dict.fromkeys(part.folder for part in parts))
    sections = []
    for folder in folders:
        own = [part for part in parts if part.folder == folder]
        rows = "".join(_row(part, state["done"].get(part.name, {})) for part in own)
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        picture = draw_curves([part.folder / part.stage.label for part in own],
                              folder / "curves.png")
        data = base64.b64encode(picture.read_bytes()).decode()
        sections.append(
            f"<h2>λ = {own[0].lmbda:g}</h2>"
            f"<div class=scroll><table><tr>{head}</tr>{rows}</table></div>"
            '<p><img alt="PSNR and bits per pixel over the steps of all stages" '
            f'src="data:image/png;base64,{data}">')
    settings = state["settings"]
    name = html.escape(settings["recipe"])
    minutes = sum(done["minutes"] for done in state["done"].values())
    model, seed = html.escape(settings["model_size"]), settings["train"]["seed"]
    text = ('<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{name}</title><style>{STYLE}</style><h1>Recipe {name}</h1>"
            f"<p>Model {model}, seed {seed}, {minutes:.1f} minutes since the stages were last begun. "
            "The validation loss of a stage is its own: compare it within a stage only. PSNR over RGB, "
            'mean of the P-frames; beside it, as "previous", that of the previous frame shown again; '
            f"rates are estimates over unpadded pixels.</p>{''.join(sections)}\n")
    path = run / "summary.html"
    write_text(path, text)
    return path


def _row(part: Any, done: dict[str, Any]) -> str:
    folder = part.folder / part.stage.label
    val = read_metrics(folder, "val")
    last = val[-1] if val else {}
    cells = [part.stage.label, *(done.get(name, "") for name in ("steps", "minutes", "skipped")),
             _number(done.get("best"), 4), _number(last.get("psnr_p"), 2),
             # "psnr_copy" is the older name of what the column calls "previous".
             _number(last.get("psnr_copy"), 2), _number(last.get("bpp_p"), 4),
             _number(last.get("bpp_i"), 4)]
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
