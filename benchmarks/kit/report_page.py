"""How large the report gets and how fast it opens: a page of invented results, opened in a headless Chromium."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
from kit.browser import Browser
from PIL import Image

from dcvc.report import write_report
from dcvc.report.results import make_point, new_results

# What "opened" means: after the load event, two frames drawn and the pictures in view decoded.
SHOWN = """(async () => {
  for (const name of ["left", "right"]) await document.getElementById(`image-${name}`).decode();
  for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame);
  return performance.now() / 1000;
})()"""


def invented_picture(path: Path, seed: int, size: tuple[int, int] = (96, 64), noise: float = 0.0) -> str:
    """Smooth random colours, with noise where it is meant to look coded; size: (width, height)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize(size, Image.BICUBIC)
    values = np.asarray(small, float) + np.random.default_rng(seed + 99).normal(0, noise, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)
    return str(path)


def invented_results(folder: Path, sequences: int = 2, codecs: tuple[str, ...] = ("dcvc", "x264"), rates: int = 4,
                     size: tuple[int, int] = (96, 64), frames: int = 8) -> dict:
    """A results table as eval and compare make them, of invented numbers, with pictures in `folder`."""
    names = [f"clip{n}" for n in range(sequences)]
    table = new_results("dcvc eval <clips> & more", [
        {"name": name, "width": size[0], "height": size[1], "fps": 25.0, "frames": frames, "colour": "bt709",
         "digest": name, "snapshot": {"frame": 5, "file": invented_picture(folder / f"{name}_original.png", k, size)}}
        for k, name in enumerate(names)], {"gop_size": 4})
    for c, codec in enumerate(codecs):
        for r in range(rates):
            rows = []
            for k, name in enumerate(names):
                bpp, psnr = 0.05 * 2**r * (1 + 0.1 * c), 30 + 2.2 * r + 0.3 * k - 0.05 * r * r
                bits = [bpp * size[0] * size[1]] * frames
                file = invented_picture(folder / f"{name}_{codec}_{r}.png", k, size, 20 - 4 * r + c)
                rows.append({"name": name, "width": size[0], "height": size[1], "frames": frames, "bits": sum(bits),
                             "bpp": bpp, "psnr": psnr, "psnr_of_mean_mse": psnr - 0.1, "psnr_yuv": psnr + 2,
                             "psnr_yuv_of_mean_mse": psnr + 1.9, "ms_ssim": 0.9 + 0.02 * r, "ms_ssim_scales": 3,
                             "encode_seconds": 1.0, "decode_seconds": None, "snapshot": {"frame": 5, "file": file},
                             **({"bpp_estimate": 0.99 * bpp} if codec == "dcvc" else {}),
                             "per_frame": {"type": ["I", "P", "P", "P"] * (frames // 4), "bits": bits,
                                           "psnr": [psnr + t % 3 / 10 for t in range(frames)],
                                           "ms_ssim": [0.9] * frames,
                                           "terms": {"y": bits, "z": [1.0] * frames} if codec == "dcvc" else {}}})
            kind = "anchor" if codec.startswith("x") else "neural"
            table["points"].append(make_point(codec, kind, f"q{r}", "written", {}, rows))
    return table


def bench_report(sequences: int = 10, codecs: int = 4, rates: int = 4, size: tuple[int, int] = (1920, 1080),
                 frames: int = 96, opened: int = 5) -> dict:
    """Size of the page, and the seconds from the navigation until it is loaded and drawn, in `opened` new browsers."""
    names = ("dcvc", "x264", "x265", *(f"x-av1 {n}" for n in range(codecs)))[:codecs]
    with tempfile.TemporaryDirectory() as folder:
        table = invented_results(Path(folder) / "frames", sequences, names, rates, size, frames)
        page = write_report([table], Path(folder) / "report.html")
        seconds, problems, version = [], [], ""
        for _ in range(opened):
            with Browser() as browser:
                version = browser.call("Browser.getVersion")["product"]
                shown = browser.open(page)
                seconds.append(shown.evaluate(SHOWN))
                problems += shown.problems
        return {"sequences": sequences, "codecs": codecs, "rates": rates, "width": size[0], "height": size[1],
                "frames": frames, "bytes": page.stat().st_size, "limit_bytes": 15_000_000,
                "open_seconds": [round(value, 3) for value in seconds],
                "median_open_seconds": round(statistics.median(seconds), 3), "limit_seconds": 2.0,
                "problems": problems, "browser": version}
