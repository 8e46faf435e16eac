"""A training becomes a model of the package: weights in half precision, judged on the validation clips, with its card.

    python benchmarks/train_boxed.py light-m            # the data, the anchors and the training; goes on where it was
    python benchmarks/box_model.py light-m              # dcvc/models/boxed/light-m

The card holds what a user asks: what it was trained on, with which licences, by which command, for how long, and where
it stands against x264 and x265 of the same structure (medium, zerolatency; BD-rate over the mean curve of all clips, 96
frames each, from bytes of written streams). Run it as often as the training has got better.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

from train_boxed import ANCHORS, CLIPS, FRAMES, MANIFEST, PERIODS, ROOT, SOURCES, command_of

from dcvc.bench.macs import i_frame_parts, p_frame_parts, total
from dcvc.checkpoint import load_codec, model_card, save_pretrained
from dcvc.files import write_text
from dcvc.models.catalog import BOXED, CARD, MODEL_FILE, WORDS
from dcvc.models.run_folder import stage_folders
from dcvc.report.page import report_data
from dcvc.report.results import read_results
from dcvc.weights import read_checkpoint

QUALITIES = ("4", "16", "28", "40", "52")
STRUCTURES = {"32": "intra 32", "-1": "one I-frame"}
METRICS = {"psnr": "RGB PSNR", "psnr_yuv": "YUV PSNR 6:1:1"}


def judged(model: Path, period: str, scratch: Path) -> dict:
    """Results of written streams, kept beside the run."""
    out = scratch / f"{period}.json"
    subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", "eval", str(CLIPS), "--model", str(model),
                    "--name", "dcvc", "--qualities", *QUALITIES, "--max_frames", str(FRAMES), "--intra_period", period,
                    "--no-exact", "--no-decode", "--quiet", "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
    return read_results(out)


def bd_rates(results: dict, period: str) -> dict:
    """{anchor: {metric: {"mean curve": %, "clips": {...}, "db": dB}}}"""
    found: dict = {}
    for anchor in ("x264", "x265"):
        data = report_data([results, read_results(ANCHORS / f"{period}.json")], anchor)
        for metric in METRICS:
            rows = {row["sequence"]: row for row in data["bd"][metric] if row["codec"] == "dcvc"}
            mean = rows.pop("mean curve")
            found.setdefault(anchor, {})[metric] = {
                "mean curve": mean["bd_rate"], "db": mean["bd_quality"],
                "clips": {name: row["bd_rate"] for name, row in rows.items()}}
    return found


def training_facts(run: Path) -> dict:
    """Stages with their steps, pixels and hours, and the seed."""
    stages, seed = [], None
    for _, folder in stage_folders(run):
        content = read_checkpoint(folder / "ema.pt")
        stage, seed = content["settings"]["stage"], content["settings"]["train"]["seed"]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        times = [line["time"] for line in lines if line["kind"] == "train"]
        # A pause between two runs is no training: it is longer than any step.
        seconds = sum(gap for gap in (b - a for a, b in zip(times, times[1:], strict=False)) if gap < 300)
        steps = content["progress"]["step"]
        if not steps:
            continue
        pixels = steps * stage["batch_size"] * stage["gop_size"] * stage["crop_size"] ** 2
        stages.append({"stage": folder.name, "steps": steps, "of": stage["max_steps"],
                       "gigapixels": round(pixels / 1e9, 3), "hours": round(seconds / 3600, 2)})
    return {"stages": stages, "seed": seed}


def sources() -> list[dict]:
    used = {Path(line).name for line in SOURCES.read_text().splitlines()}
    with open(MANIFEST, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["file"] in used]
    return [{"file": row["file"], "licence": row["repo_licence"], "note": row["file_licence_note"],
             "source": row["source_repo"]} for row in rows]


def words(name: str, card: dict) -> str:
    """README.md of the model."""
    lines = [f"# {name}", "",
             f"I- and P-frames, all qualities 0 to 63. {sum(card['parameters'].values()):,} parameters, "
             f"{card['bytes'] / 1e6:.1f} MB in half precision. A P-frame takes {card['kmac']['P']['encoder']:.1f} kMAC "
             f"a pixel to encode and {card['kmac']['P']['decoder']:.1f} to decode.", "",
             "## Where it stands", "",
             f"BD-rate on {card['clips']} validation clips, {FRAMES} frames each, short side 288, with the model's "
             "own quality steps, against encoders at `-preset medium -tune zerolatency` with the same "
             "I-frames; above zero means more bits. These clips were not trained on.", "",
             "| against | structure | RGB PSNR | YUV PSNR 6:1:1 |", "|---|---|---|---|"]
    for structure, anchors in card["rates"].items():
        for anchor, metrics in anchors.items():
            cells = " | ".join(f"{metrics[metric]['mean curve']:+.1f} % ({metrics[metric]['db']:+.2f} dB)"
                               for metric in METRICS)
            lines.append(f"| {anchor} | {structure} | {cells} |")
    lines += ["", "## Training", "", f"`{card['training']['command']}`, seed {card['training']['seed']}", "",
              "| stage | steps | Gpixel | hours on one CPU core, beside other work |", "|---|---|---|---|"]
    lines += [f"| {row['stage']} | {row['steps']} of {row['of']} | {row['gigapixels']} | {row['hours']} |"
              for row in card["training"]["stages"]]
    lines += ["", "## Data", "", "| clip | licence | source |", "|---|---|---|"]
    lines += [f"| {row['file']} | {row['licence']}: {row['note']} | {row['source']} |" for row in card["data"]]
    lines += ["", "## Limits", "",
              "It was trained for hours, not for weeks, on 8-bit clips of 360 rows. It needs more bits than x264 for "
              "the same PSNR. Grain and fast, complex motion cost most. On your own videos `dcvc tune` makes it "
              "better in minutes.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("light-s", "light-m"))
    options = parser.parse_args()
    run, scratch = ROOT / options.name, ROOT / f"{options.name}-judged"
    for folder in (scratch / "model", scratch):
        shutil.rmtree(folder, ignore_errors=True)
    codec = load_codec(stage_folders(run)[-1][1] / "ema.pt")
    file = save_pretrained(codec, scratch / "model", half=True)
    rates, curves = {}, {}
    for period in PERIODS:
        results = judged(file, period, scratch)
        rates[STRUCTURES[period]] = bd_rates(results, period)
        curves[STRUCTURES[period]] = [
            {"quality": point["setting"], **{key: round(point["mean"][key], 4) for key in ("bpp", *METRICS)}}
            for point in results["points"]]
    parts = {"I": total(i_frame_parts(codec.intra)), "P": total(p_frame_parts(codec.p_frame))}
    card = model_card(
        file, kmac={kind: {"encoder": round(part.encoder, 2), "decoder": round(part.decoder, 2)}
                    for kind, part in parts.items()},
        clips=len(results["sequences"]), rates=rates, curve=curves,
        bd_rate={anchor: {structure: round(rates[structure][anchor]["psnr"]["mean curve"], 1) for structure in rates}
                 for anchor in ("x264", "x265")},
        training={"command": command_of(options.name), **training_facts(run)}, data=sources())
    boxed = BOXED / options.name
    shutil.rmtree(boxed, ignore_errors=True)
    boxed.mkdir(parents=True)
    shutil.copy(file, boxed / MODEL_FILE)
    write_text(boxed / CARD, json.dumps(card, indent=1) + "\n")
    write_text(boxed / WORDS, words(options.name, card))
    print(json.dumps({"bytes": card["bytes"], **card["bd_rate"]}))


if __name__ == "__main__":
    main()
