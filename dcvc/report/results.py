"""The results file: what was measured, on what, with what. Its schema: docs/evaluation.md. No torch."""

import json
import math
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dcvc import __version__
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.files import write_text

SCHEMA, VERSION = "dcvc-results", 1
QUALITIES = ("psnr", "psnr_of_mean_mse", "psnr_yuv", "psnr_yuv_of_mean_mse", "psnr_planes",
             "psnr_y", "psnr_u", "psnr_v", "psnr_planes_of_weighted_mse", "xpsnr", "xpsnr_y",
             "xpsnr_u", "xpsnr_v", "ms_ssim", "ms_ssim_planes", "ms_ssim_y", "ms_ssim_u",
             "ms_ssim_v", "ssim_planes", "ssim_y", "ssim_u", "ssim_v", "vmaf", "lpips", "dists",
             "stsim", "flicker")
# Of I-frame codecs by themselves; the last two of those that have codes.
TOKENS = ("bits_per_frame", "codes_used", "perplexity")
AVERAGED = ("bpp", "bpp_estimate", *QUALITIES, *TOKENS)


def new_results(command: str, sequences: list[dict], settings: dict[str, Any]) -> dict[str, Any]:
    """A table without points. sequences: name, width, height, fps, frames, colour, digest of each."""
    return {"schema": SCHEMA, "version": VERSION, "command": command, "settings": settings,
            "made_by": {"dcvc": __version__, "python": platform.python_version(),
                        **{name: _version(name)
                           for name in ("torch", "av", "pytorch-msssim", "bjontegaard")}},
            "sequences": sequences, "points": [], "missing": [], "notes": _notes(sequences)}


def _notes(sequences: list[dict]) -> list[str]:
    """What to know before comparing: per sequence, and where their sizes differ."""
    notes = [f"{s['name']}: {note}" for s in sequences for note in s.get("notes", ())]
    sizes = sorted({(s["width"], s["height"]) for s in sequences})
    if len(sizes) > 1:
        named = ", ".join(f"{width}x{height}" for width, height in sizes)
        notes.append(f"sequences of differing sizes ({named}): means count every sequence the same")
    return notes


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def make_point(codec: str, kind: str, setting: str, rates: str, settings: dict[str, Any],
               sequences: list[dict[str, Any]]) -> dict[str, Any]:
    """One point of a rate-distortion curve; its mean counts every sequence the same.

    kind: "neural", "anchor", "intra" or "copy". rates: "written" or "estimate"."""
    if not sequences:
        raise InputError(f"{codec} {setting}: found no sequences, needed at least one")
    mean = {key: math.fsum(s[key] for s in sequences) / len(sequences) for key in AVERAGED
            if all(key in s for s in sequences)}
    return {"codec": codec, "kind": kind, "setting": setting, "rates": rates, "settings": settings,
            "mean": mean, "sequences": sequences}


def write_results(path: str | os.PathLike, results: dict[str, Any]) -> None:
    """Atomically. Raises ReadError when the place cannot be written."""
    write_text(path, json.dumps(results, indent=1, allow_nan=False) + "\n")


def read_results(path: str | os.PathLike) -> dict[str, Any]:
    """Raises MissingError, ReadError (no JSON), InputError (another schema or version)."""
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: no such results file") from None
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: cannot be read as JSON ({error})") from None
    check_results(results, str(path))
    return results


def check_results(results: Any, where: str) -> None:
    found = tuple(results.get(name) if isinstance(results, dict) else None for name in ("schema", "version"))
    if found != (SCHEMA, VERSION):
        raise InputError(f"{where}: found schema {found[0]} version {found[1]}, needed {SCHEMA} "
                         f"version {VERSION}; make it again with dcvc eval or dcvc compare")
    missing = [key for key in ("sequences", "points", "command") if key not in results]
    if missing:
        raise InputError(f"{where}: found no '{missing[0]}', needed it in a results file")


def curves(points: Iterable[dict[str, Any]], metric: str,
           sequence: str | None = None) -> dict[str, list]:
    """Codec -> [(bpp, quality)] sorted by rate, of the mean or of one sequence, where that metric
    was measured."""
    by_codec: dict[str, list] = {}
    for point in points:
        rows = {None: point["mean"], **{row["name"]: row for row in point["sequences"]}}
        row = rows.get(sequence, {})
        if metric in row:
            by_codec.setdefault(point["codec"], []).append((row["bpp"], row[metric]))
    return {codec: sorted(values) for codec, values in by_codec.items()}


COLUMNS = {"bpp": ("bpp", ".4f"), "bpp_estimate": ("estimate", ".4f"), "psnr": ("PSNR", ".2f"),
           "psnr_yuv": ("PSNR YUV", ".2f"), "psnr_planes": ("planes", ".2f"),
           "xpsnr": ("XPSNR", ".2f"), "ms_ssim": ("MS-SSIM", ".4f"),
           "ms_ssim_planes": ("planes MS", ".4f"), "ssim_planes": ("SSIM", ".4f"),
           "vmaf": ("VMAF", ".2f"), "lpips": ("LPIPS", ".4f"),
           "dists": ("DISTS", ".4f"),
           "stsim": ("STSIM", ".4f"),
           "flicker": ("flicker", ".3f"), "bits_per_frame": ("bits/frame", ".0f"),
           "codes_used": ("codes", ".0f"), "perplexity": ("perplexity", ".1f")}


def results_rows(results: dict[str, Any]) -> str:
    """A plain table of every point's means, for the terminal."""
    points = results["points"]
    columns = {key: form for key, form in COLUMNS.items() if any(key in p["mean"] for p in points)}
    codec, setting = (max([len(p[name]) for p in points] + [len(name)]) for name in ("codec", "setting"))
    heads = "".join(f"{name:>11}" for name, _ in columns.values())
    lines = [f"{'codec':<{codec}}  {'setting':<{setting}}{heads}{'enc fps':>9}{'dec fps':>9}  rates"]
    for p in points:
        cells = "".join(f"{p['mean'][key]:>11{form}}" if key in p["mean"] else f"{'-':>11}"
                        for key, (_, form) in columns.items())
        speeds = [frames_per_second(p, way) for way in ("encode_seconds", "decode_seconds")]
        told = "".join(f"{'-' if fps is None else format(fps, '.2f'):>9}" for fps in speeds)
        lines.append(f"{p['codec']:<{codec}}  {p['setting']:<{setting}}{cells}{told}  {p['rates']}")
    lines += [f"{gone['codec']}: left out, {gone['reason']}" for gone in results["missing"]]
    lines += [f"note: {note}" for note in results.get("notes", [])]
    return "\n".join(lines)


def frames_per_second(point: dict[str, Any], way: str) -> float | None:
    """way: "encode_seconds" or "decode_seconds", of all sequences together; None: not measured."""
    rows = point["sequences"]
    seconds = [row.get(way) for row in rows]
    if None in seconds or not sum(seconds):
        return None
    return sum(row["frames"] for row in rows) / sum(seconds)
