"""One picture of a report: its top on a screen and, in dark mode, its frames on a phone, side by side."""

import io
from pathlib import Path

from kit.browser import Browser
from kit.report_page import SHOWN
from PIL import Image

from dcvc.files import replaced

HEIGHT, SCREEN, PHONE, GAP = 1160, 1180, 390, 24


def draw_report(page: Path, picture: Path) -> Path:
    """Opens `page` in a headless Chromium and writes a PNG. Raises MissingError without one, ReadError."""
    with Browser() as browser:
        screen = browser.open(page, SCREEN, HEIGHT)
        phone = browser.open(page, PHONE, HEIGHT // 2 * 2, dark=True)
        phone.evaluate("document.getElementById('h-frames').scrollIntoView()")
        shots = []
        for view in (screen, phone):
            view.call("Page.bringToFront")
            view.evaluate(SHOWN)
            shots.append(Image.open(io.BytesIO(view.shot())).convert("RGB"))
    whole = Image.new("RGB", (SCREEN + GAP + PHONE, HEIGHT), (128, 128, 128))
    whole.paste(shots[0], (0, 0))
    whole.paste(shots[1], (SCREEN + GAP, 0))
    with replaced(picture) as partial:
        whole.save(partial, format="PNG", optimize=True)
    return picture
