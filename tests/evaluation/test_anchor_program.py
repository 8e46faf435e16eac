"""`--anchor_command`: a program of the user's as an anchor, here one that divides samples and compresses them."""

import sys
import time

import pytest

from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.report.results import read_results

# encode IN OUT STEP, decode IN OUT [FRAMES THAT GET LOST], fail, hang
STAND_IN = """
import sys, time, zlib
what, *words = sys.argv[1:]
if what == "fail":
    print("starting")
    sys.exit("no such profile")
if what == "hang":
    time.sleep(60)
data = open(words[0], "rb").read()
if what == "encode":
    step = int(words[2])
    data = bytes([step]) + zlib.compress(bytes(value // step for value in data))
else:
    step, lost = data[0], int(words[2]) if words[2:] else 0
    data = bytes(min(255, value * step + step // 2) for value in zlib.decompress(data[1:]))
    data = data[:len(data) - lost]
open(words[1], "wb").write(data)
"""
SIZE, FRAMES = (50, 34), 3


@pytest.fixture
def called(tmp_path, capsys):
    """Runs `dcvc compare` with a template in which PROGRAM stands for the stand-in."""
    script = tmp_path / "stand in.py"                  # a path with a space stays one word
    script.write_text(STAND_IN)
    write_synthetic_clips(tmp_path / "clips", 1, FRAMES, SIZE, seed=6)

    def call(template, *more, name="mine"):
        command = template.replace("PROGRAM", f"{sys.executable} '{script}'")
        code = main(["compare", str(tmp_path / "clips"), "--anchors", "--anchor_command", name, command, "--quiet",
                     "--cache", str(tmp_path / "cache"), "-o", str(tmp_path / "mine.json"), *more])
        return code, capsys.readouterr().err, tmp_path / "mine.json"

    return call


BOTH = "PROGRAM encode {input} {bitstream} {quality} && PROGRAM decode {bitstream} {output}"


@pytest.mark.parametrize("conditions", [(), ("--conditions", "microsoft")])
def test_its_stream_is_the_bits_and_its_yuv_the_picture(called, conditions):
    code, _, path = called(BOTH, "--command_qualities", "1", "8", *conditions)
    assert code == 0
    fine, coarse = read_results(path)["points"]
    assert (fine["codec"], fine["setting"], fine["kind"]) == ("mine", "q 1", "anchor")
    for point in (fine, coarse):
        row = point["sequences"][0]
        assert row["bits"] == 8 * row["file_bytes"]
        assert row["bpp"] == row["bits"] / (SIZE[0] * SIZE[1] * FRAMES)
        assert sum(row["per_frame"]["bits"]) == pytest.approx(row["bits"])
        assert min(row["encode_seconds"], row["decode_seconds"]) > 0
    assert fine["mean"]["bpp"] > 1.5 * coarse["mean"]["bpp"]
    assert fine["mean"]["psnr"] > coarse["mean"]["psnr"] + 3
    if conditions:
        assert fine["mean"]["psnr_planes"] == 100.0                       # a step of 1 loses nothing
        assert 35 < coarse["mean"]["psnr_planes"] < 45                    # of 8: 10 log10(255² · 12 / 64) = 40.9
    # Kept: a program that could not run any more is not asked again.
    assert called(BOTH, "--command_qualities", "1", "8", *conditions)[0] == 0


@pytest.mark.parametrize(("template", "more", "words"), [
    ("PROGRAM fail {input} {bitstream} {output} {quality}", (), "ended with code 1 (no such profile)"),
    ("PROGRAM hang {input} {bitstream} {output} {quality}", ("--command_seconds", "0.5"), "still running after 0.5 s"),
    (BOTH + " 100", (), "needed 3 frames of 50x34 yuv420p"),
    ("no-such-program {input} {bitstream} {output} {quality}", (), "no-such-program cannot be run"),
    ("PROGRAM encode {input} {bitstream} {quality}", (), "found no {output} in the command"),
    (BOTH + " {qp}", (), "found {qp}, needed one of {input}, {bitstream}"),
    (BOTH + ".elsewhere", (), "the program wrote no file {output}"),
    (BOTH, ("--command_seconds", "0"), "--command_seconds: found 0"),
])
def test_what_goes_wrong_is_one_line(called, template, more, words):
    began = time.monotonic()
    code, error, path = called(template, "--command_qualities", "4", "--no_cache", *more)
    assert code == 1
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert time.monotonic() - began < 30
    assert not path.exists()
