"""The numbers of a summary, from tables that are made for it."""

import pytest

from dcvc.training.tuning_summary import summarise

SEQUENCES = [{"name": "lawn", "width": 320, "height": 180, "fps": 30.0},
             {"name": "yard", "width": 640, "height": 360, "fps": None}]
BPP, PSNR = (0.02, 0.05, 0.1, 0.2), (28.0, 31.0, 34.0, 37.0)


def table(codec: str, factor: float = 1.0) -> dict:
    """The same curve for both clips, at so many times the bits."""
    points = []
    for bpp, psnr in zip(BPP, PSNR, strict=True):
        row = {"bpp": factor * bpp, "psnr": psnr}
        points.append({"codec": codec, "mean": row, "sequences": [{"name": one["name"], **row} for one in SEQUENCES]})
    return {"points": points, "sequences": SEQUENCES}


@pytest.mark.parametrize(("factor", "saving"), [(2.0, -100), (0.5, 50), (1.0, 0)])
def test_savings_are_bits_at_equal_psnr(factor, saving):
    summary = summarise(table("light-m"), table("light-m tuned", factor), table("x264", 0.5))
    assert summary.saving == pytest.approx(saving, abs=0.1)
    assert summary.sequences == pytest.approx({"lawn": saving, "yard": saving}, abs=0.1)
    assert summary.better == (saving > 0)
    assert ("does not help" in summary.text) == (saving <= 0)
    assert summary.against["x264"] == pytest.approx({"before": 100, "after": 200 * factor - 100}, abs=0.2)


def test_bytes_an_hour_are_those_of_the_mean_clip():
    """Before: 0.1 bpp of 320x180 at 30 and of 640x360 at 25 frames a second."""
    summary = summarise(table("light-m"), table("light-m tuned", 0.5), table("x264"))
    rates = [0.1 * 320 * 180 * 30, 0.1 * 640 * 360 * 25]
    before, after = summary.bytes_an_hour
    assert before == pytest.approx(sum(rates) / 2 / 8 * 3600)
    assert after == pytest.approx(before / 2, rel=1e-3)
    assert f"at {PSNR[2]:.1f} dB: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after" in summary.text


def test_curves_that_cannot_be_compared_keep_the_start():
    after = table("light-m tuned")
    for number, point in enumerate(after["points"]):
        for row in (point["mean"], *point["sequences"]):
            row["psnr"] = 20.0 - number
    summary = summarise(table("light-m"), after, table("x264"))
    assert (summary.saving, summary.better) == (None, False)
    assert "cannot be compared" in summary.text
