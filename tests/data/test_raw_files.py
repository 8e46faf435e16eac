"""Raw files: what names say is read so, or refused in words; every layout gives the colours of its samples."""

import contextlib
import re

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.cli import main
from dcvc.data.eval_sequences import open_sequences
from dcvc.data.raw_files import RawFormat, raw_format, raw_layouts
from dcvc.data.raw_names import HIGHEST_RATE, parse_raw_name
from dcvc.errors import InputError
from dcvc.video.rgb_to_yuv import rgb_to_yuv420
from dcvc.video.yuv_to_rgb import Colour, to_rgb

W, H = 22, 18
NAMES = {
    "Kimono_64X48p60_444": (60, "yuv444p"), "x_64x48_422_30": (30, "yuv422p"),
    "x_64x48_yuv422p10le_25": (25, "yuv422p10le"),
    "Beauty_64x48_120fps_420_8bit_YUV": (120, "yuv420p"), "x_64x48_420_120fps": (120, "yuv420p"),
    "x 64x48 (12 bit) 50 hz": (50, "yuv420p12le"), "x_16bits_64x48_29.97": (29.97, "yuv420p16le"),
    "x_64x48_2997fps": (29.97, "yuv420p"), "x_64x48_23976fps_gray": (23.976, "gray"),
    "x_64x48_400_10b": (None, "gray10le"),
    "x_64x48_P010_24": (24, "p010le"), "x_64x48_NV21_24": (24, "nv21"), "x_64x48_yuy2": (None, "yuyv422"),
    "Scene_422_to_444_64x48_50": (50, "yuv420p"), "x_64x48_4:4:4_14bit": (None, "yuv444p14le"),
    "10bit_x_64x48_fps50": (50, "yuv420p10le"), "x_64x48_I420_24.000fps": (24, "yuv420p"),
    "x.64x48.25.yuv444p": (25, "yuv444p"), "x_64x48_709_30": (30, "yuv420p"),
    "rgb24_64x48_30": (30, "rgb24"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_by_its_grammar(name, tmp_path):
    fps, layout = NAMES[name]
    found = raw_format(tmp_path / f"{name}.yuv", RawFormat())
    assert (found.size, found.fps, found.layout) == ((64, 48), fps, layout)


@pytest.mark.parametrize(("name", "matrix"), [
    ("S01_64x48p_50_10b_pq_709_420", "bt709"), ("x_64x48_bt601", "bt601"), ("rec2020_64x48_25", "bt2020")])
def test_the_matrix_that_a_name_tells(name, matrix, tmp_path):
    assert raw_format(tmp_path / f"{name}.yuv", RawFormat()).matrix == matrix


@pytest.mark.parametrize(("name", "said"), [
    ("x_64x48_1000fps", "1000fps"), ("x_64x48_300hz", "300hz"), ("x_64x48_yv12", "yv12"), ("x_64x48_v210", "v210"),
    ("x_64x48_422_444", "422 and 444"), ("x_64x48_8bit_10bit", "8 and 10"), ("x_64x48_p010_8bit", "p010le"),
    ("x_64x48_13bit", "13 bits"), ("x_64x48_411_10bit", "411 of 10"), ("x_64x48_0fps", "0fps"), ("x", "WIDTHxHEIGHT")])
def test_what_cannot_be_read_is_refused_by_its_own_word(name, said, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)):
        raw_format(tmp_path / f"{name}.yuv", RawFormat())


@pytest.mark.parametrize(("told", "fps", "layout"), [
    ({"layout": "nv12"}, 30, "nv12"), ({"layout": "422"}, 30, "yuv422p10le"), ({"layout": "422p"}, 30, "yuv422p10le"),
    ({"depth": 8}, 30, "yuv444p"), ({"layout": "yuv420p12", "fps": 7.5}, 7.5, "yuv420p12le"),
    ({"layout": "420", "depth": 16}, 30, "yuv420p16le")])
def test_what_the_user_says_wins(told, fps, layout, tmp_path):
    found = raw_format(tmp_path / "x_64x48_30fps_444_10bit.yuv", RawFormat(**told))
    assert (found.fps, found.layout) == (fps, layout)
    with pytest.raises(InputError, match="--raw_layout: found 'nonsense'"):
        raw_format(tmp_path / "x_64x48.yuv", RawFormat(layout="nonsense"))
    assert raw_format(tmp_path / "x_64x48_900fps_yv12.yuv", RawFormat(layout="nv12", fps=900)).fps == 900


def samples(layout, rng):
    """Random samples of a frame in this layout, as bytes, and the planes that they are: by hand, without FFmpeg."""
    family = re.match(r"yuv(4\d\d)p|(gray)|(nv|p)(\w\w\w?)", layout)
    depth = int((re.search(r"p(\d+)le", layout) or re.search(r"[a-y](\d\d)le", layout) or [0, 8])[1])
    shift = 0
    if layout == "p010le":
        depth, shift = 10, 6
    kind = np.uint8 if depth == 8 else np.dtype("<u2")
    chroma = {"444": (H, W), "422": (H, -(-W // 2)), "420": (-(-H // 2), -(-W // 2))}[
        family[1] or {"nv16": "422", "nv24": "444"}.get(layout, "420")]
    shapes = [(H, W)] if layout.startswith("gray") else [(H, W), chroma, chroma]
    planes = [rng.integers(0, 1 << depth, shape).astype(kind) for shape in shapes]
    if family[3]:
        pair = planes[:0:-1] if layout == "nv21" else planes[1:]
        stored = [planes[0], np.stack(pair, -1)]
    else:
        stored = planes
    data = b"".join((plane << shift).astype(kind).tobytes() for plane in stored)
    reduction = chroma[0] < H, chroma[1] < W
    colour = Colour("bt601", False, depth, (0, 0) if len(planes) == 1 else tuple(map(int, reduction)),
                    monochrome=len(planes) == 1)
    return data, planes, colour


@pytest.mark.parametrize("layout", ["yuv444p", "yuv422p", "yuv420p12le", "yuv444p10le", "yuv420p16le", "gray",
                                    "gray12le", "nv12", "nv21", "nv16", "nv24", "p010le"])
def test_each_layout_gives_the_colours_of_its_samples(layout, tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / f"x_{W}x{H}_30fps_{layout}.yuv"
    frames = [samples(layout, rng) for _ in range(2)]
    path.write_bytes(b"".join(data for data, _, _ in frames))
    sequence, = open_sequences(path)
    assert (sequence.frames, sequence.fps) == (2, 30)
    for got, (_, planes, colour) in zip(sequence.stream(), frames, strict=True):
        kind = np.uint8 if colour.depth == 8 else np.int32
        tensors = [torch.from_numpy(plane.astype(kind))[None] for plane in planes]
        tensors = tensors if len(tensors) == 3 else [tensors[0], *[tensors[0][:, :0, :0]] * 2]
        assert torch.equal(got, to_rgb(*tensors, colour)[0])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"multiple of \d+ \(22x18, .*--raw_layout"):
        open_sequences(path)


@pytest.mark.parametrize("layout", sorted(raw_layouts()))
def test_ffmpeg_and_we_agree_about_the_bytes_of_a_frame(layout):
    raw = RawFormat((64, 48), layout=layout)
    decoder = av.CodecContext.create("rawvideo", "r")
    decoder.width, decoder.height, decoder.pix_fmt = 64, 48, layout
    assert decoder.decode(av.Packet(bytes(raw.frame_bytes())))[0].format.name == layout


def test_commands_take_layout_depth_and_rate(tmp_path, capsys):
    planes = rgb_to_yuv420(torch.rand(3, 3, 48, 64))
    data = b"".join(plane[t].numpy().tobytes() for t in range(3) for plane in planes)
    path = tmp_path / "x_64x48_444.yuv"
    path.write_bytes(data)
    line = ["compare", str(path), "--anchors", "x264:30", "-o", str(tmp_path / "r.json"), "--quiet", "--no_cache"]
    assert main(line) == 1
    assert "4:4:4" in capsys.readouterr().err
    assert main([*line, "--raw_layout", "420", "--raw_depth", "8", "--raw_fps", "23.976"]) == 0


WORDS = st.sampled_from(["x", "420", "422p", "yuv444p10le", "nv12", "8bit", "10b", "12 bit", "60fps", "59.94",
                         "5994fps", "25", "400", "709", "pq", "4:2:2", "1080p50", "(final)", "v2",
                         "3000fps", "", ".", "é", "十"])


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=6), st.sampled_from("_- ."))
def test_any_name_is_read_or_refused(before, after, separator):
    name = separator.join([*before, "64x48", *after])
    try:
        found = parse_raw_name(name, raw_layouts())
    except InputError:
        return
    assert found.size == (64, 48)
    assert found.fps is None or 0 < found.fps <= HIGHEST_RATE
    assert found.layout is None or found.layout in raw_layouts() or re.fullmatch(r"4\d\d", found.layout)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_the_grammar(text):
    with contextlib.suppress(InputError):
        parse_raw_name(text, raw_layouts())
