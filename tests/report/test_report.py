"""The page: self-contained, refuses what does not belong together, and works in a real browser."""

import copy
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dcvc.errors import InputError, ReadError
from dcvc.report import write_report
from dcvc.report.page import page_data
from dcvc.report.pictures import embed, heat_map
from dcvc.results import make_point, new_results, write_results

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (found := shutil.which(name))), None)


def picture(path, seed, size=(96, 64), noise=0.0):
    """Smooth random colours, with noise where it is meant to look coded."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize(size, Image.BICUBIC)
    values = np.asarray(small, float) + np.random.default_rng(seed + 99).normal(0, noise, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)
    return str(path)


def made(folder, sequences=2, codecs=("dcvc", "x264"), rates=4, size=(96, 64), frames=8):
    """A results table as eval and compare make them, of invented numbers, with pictures."""
    names = [f"clip{n}" for n in range(sequences)]
    table = new_results("dcvc eval <clips> & more", [
        {"name": name, "width": size[0], "height": size[1], "fps": 25.0, "frames": frames, "colour": "bt709",
         "digest": name, "snapshot": {"frame": 5, "file": picture(folder / f"{name}_original.png", k, size)}}
        for k, name in enumerate(names)], {"gop_size": 4})
    for c, codec in enumerate(codecs):
        for r in range(rates):
            rows = []
            for k, name in enumerate(names):
                bpp, psnr = 0.05 * 2**r * (1 + 0.1 * c), 30 + 2.2 * r + 0.3 * k - 0.05 * r * r
                bits = [bpp * size[0] * size[1]] * frames
                file = picture(folder / f"{name}_{codec}_{r}.png", k, size, 20 - 4 * r + c)
                rows.append({"name": name, "width": size[0], "height": size[1], "frames": frames, "bits": sum(bits),
                             "bpp": bpp, "psnr": psnr, "psnr_of_mean_mse": psnr - 0.1, "psnr_yuv": psnr + 2,
                             "psnr_yuv_of_mean_mse": psnr + 1.9, "ms_ssim": 0.9 + 0.02 * r, "ms_ssim_scales": 3,
                             "encode_seconds": 1.0, "decode_seconds": None, "snapshot": {"frame": 5, "file": file},
                             "per_frame": {"type": ["I", "P", "P", "P"] * (frames // 4), "bits": bits,
                                           "psnr": [psnr] * frames, "ms_ssim": [0.9] * frames,
                                           "terms": {"y": bits, "z": [1.0] * frames} if codec == "dcvc" else {}}})
            kind = "anchor" if codec.startswith("x") else "neural"
            table["points"].append(make_point(codec, kind, f"q{r}", "written", {}, rows))
    return table


def test_the_page_refers_to_nothing_outside_and_escapes_names(tmp_path):
    table = made(tmp_path / "frames")
    table["sequences"][0]["colour"] = "</script><script>alert(1)</script>"
    write_results(tmp_path / "results.json", table)
    page = write_report([tmp_path / "results.json"], tmp_path / "report.html", title="<b>Ours</b>").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!data:)[a-z]+:|url\(|@import|fetch\(""", page)
    assert set(re.findall(r"https?://[^\s\"'`<)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "<script>alert" not in page
    assert "&lt;b&gt;Ours" in page
    assert page.count("data:image/webp") == 2 + 2 * 16


def test_importing_the_report_brings_no_torch():
    code = "import dcvc.report, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bd_rows_of_the_page(tmp_path):
    table = made(tmp_path)
    rows = page_data([table], [tmp_path], None)["bd"]["psnr"]
    assert {(r["sequence"], r["codec"]) for r in rows} == {(s, "dcvc") for s in ("mean curve", "clip0", "clip1")}
    assert rows[0]["bd_rate"] == pytest.approx(-100 / 11, abs=0.01)     # dcvc has 1/1.1 of the rate
    swapped = page_data([table], [tmp_path], "dcvc")["bd"]["psnr"][0]
    assert (swapped["codec"], swapped["bd_rate"]) == ("x264", pytest.approx(10, abs=0.01))
    table["points"] = table["points"][:3] + table["points"][4:]
    short = page_data([table], [tmp_path], None)["bd"]["psnr"][0]
    assert short["bd_rate"] is None
    assert "3 points, needed 4" in short["problem"]


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    table = made(tmp_path)
    other = copy.deepcopy(table)
    other["sequences"][0]["digest"] = "changed"
    with pytest.raises(InputError, match="'clip0' has other frames"):
        write_report([table, other], tmp_path / "no.html")
    del other["sequences"][0]
    with pytest.raises(InputError, match="'clip0' is in one results file only"):
        write_report([table, other], tmp_path / "no.html")
    with pytest.raises(InputError, match="needed dcvc-results version 1"):
        write_report([{**table, "version": 2}], tmp_path / "no.html")
    with pytest.raises(InputError, match="one of dcvc, x264"):
        write_report([table], tmp_path / "no.html", anchor="x265")
    with pytest.raises(InputError, match="no measured point"):
        write_report([{**table, "points": []}], tmp_path / "no.html")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ReadError, match=r"broken\.json"):
        write_report([tmp_path / "broken.json"], tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()


def test_pictures_stay_within_the_budget_and_lost_ones_are_told(tmp_path):
    original = tmp_path / "o.png"
    picture(original, 1, (960, 540), noise=30)
    decoded = {f"x|{n}|s": ("s", tmp_path / f"{n}.png") for n in range(3)}
    for n, (_, path) in enumerate(decoded.values()):
        picture(path, 1, (960, 540), noise=40 + n)
    full, _ = embed({"s": original}, decoded, 10**8)
    size = sum(len(text) for entry in full.values() for text in entry.values())
    small, lost = embed({"s": original}, {**decoded, "gone": ("s", tmp_path / "gone.png")}, size // 2)
    assert 0 < sum(len(text) for entry in small.values() for text in entry.values()) <= size // 2
    assert set(small) == set(full)
    assert lost == [str(tmp_path / "gone.png")]


def test_the_heat_map_is_dark_where_equal():
    first = np.zeros((32, 64, 3), np.uint8)
    second = first.copy()
    second[:, 32:] = 24
    heat = np.asarray(heat_map(Image.fromarray(second), Image.fromarray(first)))
    assert (heat[:, :30] == [0, 0, 4]).all()
    assert (heat[:, 34:] == [252, 255, 190]).all()


DRIVE = """
<script>
window.addEventListener("load", () => {
  const found = { errors: window.problems, load: performance.now() }, byId = id => document.getElementById(id);
  const fire = (id, value, kind) => { byId(id).value = value; byId(id).dispatchEvent(new Event(kind)); };
  const column = n => [...byId("rows").querySelectorAll("tbody tr")].map(r => r.children[n].textContent);
  const before = byId("image-left").style.clipPath;
  fire("slider", "20", "input");
  found.slider = [before, byId("image-left").style.clipPath, byId("edge").style.left];
  const button = byId("rows").querySelectorAll("th button")[3];
  button.focus(); found.focused = document.activeElement === button;
  button.click(); found.up = column(3); button.click(); found.down = column(3);
  found.sort = byId("rows").querySelectorAll("th")[3].getAttribute("aria-sort");
  found.dots = byId("curves").querySelectorAll("circle").length;
  fire("metric", "ms_ssim", "change"); found.axis = byId("curves").textContent.includes("MS-SSIM");
  fire("show", "heat", "change"); found.heat = byId("image-left").src.startsWith("data:image/webp");
  found.captions = [byId("caption-left").textContent, byId("caption-right").textContent];
  found.bars = byId("time").querySelectorAll("rect").length;
  found.overflow = document.documentElement.scrollWidth > window.innerWidth;
  found.dark = getComputedStyle(document.body).backgroundColor;
  const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>"""


def browse(page, tmp_path, *flags):
    """Open the page with a driver in it -> what the driver saw, and Chromium's log."""
    text = page.read_text()
    text = text.replace("<head>", "<head><script>window.problems = []; "
                                  "window.onerror = (m) => window.problems.push(m);</script>", 1)
    driven = tmp_path / "driven.html"
    driven.write_text(text.replace("</body>", DRIVE + "</body>"))
    run = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                          f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", *flags,
                          driven.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    assert found, run.stderr[-2000:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), run.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("flags", [("--window-size=1280,900",), ("--window-size=500,800",)])
def test_the_page_works_in_a_browser(tmp_path, flags):
    page = write_report([made(tmp_path / "frames")], tmp_path / "report.html")
    found, log = browse(page, tmp_path, *flags)
    assert found["errors"] == []
    assert "CONSOLE" not in log
    assert found["slider"] == ["inset(0px 50% 0px 0px)", "inset(0px 80% 0px 0px)", "20%"]
    assert found["up"] == sorted(found["up"])
    assert found["down"] == sorted(found["up"], reverse=True)
    assert len(set(found["up"])) > 4
    assert found["sort"] == "descending"
    assert found["focused"]
    assert found["dots"] == 8
    assert found["axis"]
    assert found["heat"]
    assert found["captions"][0].startswith("dcvc q2")
    assert found["captions"][1].startswith("x264 q2")           # nearest in rate
    assert found["bars"] == 16
    assert not found["overflow"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_ten_sequences_four_codecs_four_rates(tmp_path):
    """At most 15 MB, loaded in less than 2 s; 1080p frames with much detail."""
    table = made(tmp_path / "frames", 10, ("dcvc", "x264", "x265", "xav1"), 4, (1920, 1080), 96)
    page = write_report([table], tmp_path / "report.html")
    found, _ = browse(page, tmp_path)
    print(json.dumps({"bytes": page.stat().st_size, "load_ms": found["load"]}))
    assert page.stat().st_size <= 15e6
    assert found["load"] < 2000
    assert found["errors"] == []
