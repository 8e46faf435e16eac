"""The page in a real browser: keys, touch, themes, a phone, and nothing in its console."""

import os
import re

import pytest
from kit.browser import Browser, find_chromium
from kit.report_page import SHOWN, bench_report, invented_results

from dcvc.report import write_report

if find_chromium() is None:
    if os.environ.get("DCVC_REQUIRE_BROWSER"):
        pytest.fail("DCVC_REQUIRE_BROWSER is set, but there is no Chromium", pytrace=False)
    pytest.skip("no Chromium on this machine (apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    table = invented_results(folder / "frames")
    table["missing"].append({"codec": "svt-av1", "reason": "this FFmpeg build has no encoder libsvtav1"})
    table["notes"].append("clip0: frame rate unknown, 25 assumed")
    return write_report([table], folder / "report.html")


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@pytest.fixture
def page(browser, file):
    page = browser.open(file)
    yield page
    assert page.problems == []


def left_share(page):
    return page.evaluate("document.getElementById('image-left').style.clipPath")


def focus_by_tab(page, selector):
    """Press Tab until the element has the focus: it can be reached without a mouse."""
    for _ in range(80):
        page.press("Tab")
        if page.evaluate(f"document.activeElement === document.querySelector({selector!r})"):
            return
    raise AssertionError(f"{selector} cannot be reached by the Tab key")


def column(page, table, number):
    return page.evaluate(f"[...document.querySelectorAll('#{table} tbody tr')]"
                         f".map(row => row.children[{number}].textContent)")


def test_the_slider_moves_by_the_keys_of_a_keyboard(page):
    assert left_share(page) == "inset(0px 50% 0px 0px)"
    focus_by_tab(page, "#slider")
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert left_share(page) == "inset(0px 53% 0px 0px)"
    assert page.evaluate("document.getElementById('edge').style.left") == "47%"
    page.press("Home")
    assert left_share(page) == "inset(0px 100% 0px 0px)"
    page.press("End")
    assert left_share(page) == "inset(0px 0%)" or left_share(page) == "inset(0px 0% 0px 0px)"


def test_the_edge_follows_a_press_on_the_picture(page):
    box = page.evaluate("(() => { document.getElementById('stage').scrollIntoView(); "
                        "const b = document.getElementById('stage').getBoundingClientRect(); "
                        "return [b.left, b.top, b.width, b.height]; })()")
    page.click(box[0] + box[2] / 4, box[1] + min(box[3], 100) / 2)
    assert page.evaluate("document.getElementById('slider').value") == "25"
    assert left_share(page) == "inset(0px 75% 0px 0px)"


@pytest.mark.parametrize(("table", "number"), [("rows", 3), ("means", 4)])
def test_tables_sort_by_the_keyboard(page, table, number):
    head = f"#{table} th:nth-child({number + 1})"
    focus_by_tab(page, f"{head} button")
    page.press("Enter")
    rising = [float(text) for text in column(page, table, number)]
    assert rising == sorted(rising)
    assert len(set(rising)) >= 4
    page.press("Space")
    assert [float(text) for text in column(page, table, number)] == rising[::-1]
    assert page.evaluate(f"document.querySelector('{head}').getAttribute('aria-sort')") == "descending"


def choose(page, name, value):
    page.evaluate(f"(() => {{ const s = document.getElementById('{name}'); s.value = '{value}'; "
                  "s.dispatchEvent(new Event('change')); })()")


def test_curves_frames_bits_and_notices(page):
    assert page.evaluate("document.querySelectorAll('#curves circle').length") == 8
    choose(page, "metric", "ms_ssim")
    assert "MS-SSIM" in page.evaluate("document.getElementById('curves').textContent")
    choose(page, "rate-axis", "log")
    ticks = page.evaluate("[...document.querySelectorAll('#curves text')].map(t => t.textContent)")
    assert {"0.05", "0.1", "0.2"} <= set(ticks)
    assert page.evaluate("document.querySelectorAll('#time rect').length") == 16
    for plot in ("quality", "rate", "buffer"):
        assert page.evaluate(f"document.querySelectorAll('#{plot} polyline').length") == 1
        assert page.evaluate(f"document.querySelector('#{plot} polyline').getAttribute('points')").count(",") > 1
    assert "kbit/s" in page.evaluate("document.getElementById('rate-hint').textContent")
    captions = [page.evaluate(f"document.getElementById('caption-{side}').textContent") for side in ("left", "right")]
    assert captions[0].startswith("dcvc q2: 0.2000 bpp")
    assert captions[1].startswith("x264 q2")                       # the anchor's point nearest in rate
    assert page.evaluate("document.getElementById('scale').hidden")
    choose(page, "show", "heat")
    assert not page.evaluate("document.getElementById('scale').hidden")
    assert page.evaluate("document.getElementById('image-left').src").startswith("data:image/webp")
    notices = page.evaluate("document.getElementById('notices').textContent")
    assert "svt-av1 is left out: this FFmpeg build has no encoder libsvtav1" in notices
    assert "frame rate unknown" in notices
    assert "fewer than five scales" in notices


def test_estimate_and_written_bits_stand_side_by_side_with_speed(page):
    heads = column_heads(page, "means")
    assert heads[2:4] == ["bpp", "estimated bpp"]
    assert {"encode fps", "decode fps", "rates"} <= set(heads)
    assert column(page, "means", 2)[0] == "0.0500"
    assert column(page, "means", 3)[0] == "0.0495"
    assert column(page, "means", heads.index("encode fps"))[0] == "8.00"
    assert column(page, "means", heads.index("decode fps"))[0] == "–"


def column_heads(page, table):
    return page.evaluate(f"[...document.querySelectorAll('#{table} th')].map(h => h.textContent)")


def luminance(page):
    colours = page.evaluate("['color', 'backgroundColor'].map(k => getComputedStyle(document.body)[k])")
    return [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in colours]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_light_and_dark_on_a_phone_and_on_a_screen(browser, file, dark, width):
    page = browser.open(file, width=width, height=800, dark=dark, phone=width < 500)
    ink, paper = luminance(page)
    assert (ink > 0.8 and paper < 0.2) if dark else (ink < 0.2 and paper > 0.8)
    assert page.evaluate("document.documentElement.scrollWidth") <= width     # nothing sticks out sideways
    assert page.evaluate("document.querySelector('#curves svg').getBoundingClientRect().width") > 0.8 * min(width, 700)
    assert page.evaluate(SHOWN) > 0
    assert page.problems == []


@pytest.mark.slow
def test_ten_sequences_four_codecs_four_rates():
    """The record's own run (`benchmarks/report_page.py`): 1080p frames with much detail."""
    result = bench_report(opened=3)
    assert result["bytes"] <= 15_000_000
    assert result["median_open_seconds"] < 2
    assert result["problems"] == []
