"""`--conditions microsoft`: planes reach the metrics as they are, and FFmpeg agrees with the numbers."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from dcvc.cli import main
from dcvc.data.conditions import CONDITIONS
from dcvc.data.eval_sequences import open_sequences
from dcvc.errors import InputError
from dcvc.evaluation import sequence_recorder
from dcvc.evaluation.metrics import psnr_from_mse
from dcvc.evaluation.plane_metrics import planes_mse, planes_of
from dcvc.interfaces import from_levels
from dcvc.report.results import read_results
from dcvc.video.rgb_to_yuv import rgb_to_yuv420

SIZE, FRAMES = (96, 64), 5
MICROSOFT = CONDITIONS["microsoft"]


def raw_clip(folder, depth=8):
    """Moving waves with noise, of colours that RGB has: the file, and the planes of each frame."""
    rng, largest = np.random.default_rng(0), (1 << depth) - 1
    frames = []
    for t in range(FRAMES):
        planes = []
        for number, (height, width) in enumerate([SIZE[::-1], (SIZE[1] // 2, SIZE[0] // 2)] + [(32, 48)]):
            y, x = np.mgrid[:height, :width]
            wave = 0.5 + (0.1 if number else 0.2) * np.sin(x / 7 + y / 11 + t / 3 + number) * np.cos(y / 9)
            noisy = wave * largest + rng.normal(0, largest / 200, wave.shape)
            planes.append(noisy.round().clip(0, largest).astype(np.uint8 if depth == 8 else "<u2"))
        frames.append(planes)
    path = folder / f"waves_{SIZE[0]}x{SIZE[1]}_25fps_{depth}bit_420.yuv"
    path.write_bytes(b"".join(plane.tobytes() for planes in frames for plane in planes))
    return path, frames


def ffmpeg_psnr(pixels, decoded, original):
    """FFmpeg's psnr filter on two frames of planes -> dB of y, u, v."""
    graph, inputs = av.filter.Graph(), []
    node, sink = graph.add("psnr"), graph.add("buffersink")
    for number in range(2):
        inputs.append(graph.add_buffer(width=SIZE[0], height=SIZE[1], format=pixels, time_base=Fraction(1, 25)))
        inputs[-1].link_to(node, 0, number)
    node.link_to(sink)
    graph.configure()
    for source, planes in zip(inputs, (decoded, original), strict=True):
        packed = np.concatenate([np.asarray(plane).reshape(-1) for plane in planes]).reshape(-1, SIZE[0])
        frame = av.VideoFrame.from_ndarray(packed.astype(np.uint8 if pixels == "yuv420p" else np.uint16), format=pixels)
        frame.pts = 0
        source.push(frame)
        source.push(None)
    found = sink.pull().metadata
    return [float(found[f"lavfi.psnr.psnr.{name}"]) for name in "yuv"]


def lossless_video(folder, frames, depth):
    pixels = "yuv420p" if depth == 8 else "yuv420p10le"
    path = folder / "waves.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        for number, planes in enumerate(frames):
            packed = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, SIZE[0])
            frame = av.VideoFrame.from_ndarray(packed, format=pixels)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("kind", ["yuv", "mkv"])
def test_planes_are_the_sources_bytes_and_agree_with_ffmpeg(tmp_path, depth, kind):
    path, frames = raw_clip(tmp_path, depth)
    if kind == "mkv":
        path = lossless_video(tmp_path, frames, depth)
    sequence, = open_sequences(path, conditions=MICROSOFT)
    assert sequence.colour.startswith("bt709, full range as --conditions microsoft has it")
    pixels, colour = sequence.planar
    assert pixels == ("yuv420p" if depth == 8 else "yuv420p10le")
    found = list(sequence.source_frames())
    assert len(found) == FRAMES
    for frame, planes in zip(found, frames, strict=True):
        for own, wanted in zip((frame.planes.y, frame.planes.u, frame.planes.v), planes, strict=True):
            assert own[0].numpy().astype(wanted.dtype).tobytes() == wanted.tobytes()
    # What a codec of RGB pictures shows, here a perfect one, as planes again.
    decoded = planes_of(found[0].rgb, colour)
    theirs = [min(value, 100.0) for value in ffmpeg_psnr(pixels, decoded, frames[0])]
    ours = [psnr_from_mse(mse) for mse in planes_mse(decoded, found[0].planes)]
    assert ours == pytest.approx(theirs, abs=0.005)
    assert min(ours) > 38                                       # what the way through RGB leaves


def test_the_old_way_judged_other_planes(tmp_path):
    """RGB made into planes again, as `psnr_yuv` does, is not what the file holds."""
    path, frames = raw_clip(tmp_path)
    sequence, = open_sequences(path)
    old = rgb_to_yuv420(from_levels(next(sequence.stream())), "bt709", siting="center")
    changed = [(plane.numpy() != own).mean() for plane, own in zip(old, frames[0], strict=True)]
    assert min(changed) > 0.2


def test_one_word_sets_all_conditions(tmp_path, monkeypatch, capsys):
    """compare gets the file's planes, hands them to x264 as they are, and compares those that come back."""
    path, frames = raw_clip(tmp_path)
    handed = []
    original = sequence_recorder.planes_mse
    monkeypatch.setattr(sequence_recorder, "planes_mse", lambda decoded, source: handed.append(
        (decoded, source)) or original(decoded, source))
    out = tmp_path / "anchors.json"
    call = ["compare", str(path), "--conditions", "microsoft", "--no_cache", "--quiet", "-o", str(out), "--anchors"]
    assert main([*call, "x264:24", "vp9:40"]) == 0
    results = read_results(out)
    assert results["settings"]["conditions"] == "microsoft"
    assert results["settings"]["gop_size"] == 32
    assert "5 frames, the test set's usual number is 96" in results["notes"][0]
    own = b"".join(getattr(source, name)[0].numpy().tobytes() for _, source in handed[:FRAMES] for name in "yuv")
    assert own == path.read_bytes()
    theirs = np.mean([ffmpeg_psnr("yuv420p", decoded, planes) for (decoded, _), planes in
                      zip(handed, frames, strict=False)], axis=0)
    mean = results["points"][0]["mean"]
    assert [mean[f"psnr_{name}"] for name in "yuv"] == pytest.approx(list(theirs), abs=0.005)
    assert mean["psnr_planes"] == pytest.approx((6 * theirs[0] + theirs[1] + theirs[2]) / 8, abs=0.005)
    assert "planes" in capsys.readouterr().out
    assert json.dumps(results["points"][0]["sequences"][0]["per_frame"]["psnr_planes"])
    # Lossless coding of the source's planes is seen as lossless; through RGB it never was.
    assert main([*call, "x264:0"]) == 0
    assert read_results(out)["points"][0]["mean"]["psnr_planes"] == 100.0
    assert main([*call, "x264:24", "--raw_matrix", "bt601"]) == 1
    assert "--conditions microsoft: found --raw_matrix too" in capsys.readouterr().err


def test_ten_bits_are_coded_and_judged_as_ten_bits(tmp_path):
    path, _ = raw_clip(tmp_path, depth=10)
    out = tmp_path / "anchors.json"
    assert main(["compare", str(path), "--conditions", "microsoft", "--no_cache", "--quiet", "-o", str(out),
                 "--anchors", "x265:6", "vp9"]) == 0
    results = read_results(out)
    assert results["points"][0]["settings"]["pixels"] == "yuv420p10le"
    assert results["points"][0]["mean"]["psnr_y"] > 45
    # The libvpx of these wheels knows 8 bits only.
    assert [gone["codec"] for gone in results["missing"]] == ["vp9"]
    assert "yuv420p10le" in results["missing"][0]["reason"]


def test_sources_without_these_planes_are_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / f"{number}.png")
    with pytest.raises(InputError, match="found RGB pictures, needed YCbCr 4:2:0 samples for --conditions microsoft"):
        open_sequences(tmp_path / "pictures", conditions=MICROSOFT)
    path = tmp_path / "a_16x16_444.yuv"
    path.write_bytes(bytes(16 * 16 * 3))
    with pytest.raises(InputError, match="found yuv444p, needed YCbCr 4:2:0"):
        open_sequences(path, conditions=MICROSOFT)
