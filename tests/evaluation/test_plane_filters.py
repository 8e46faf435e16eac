"""XPSNR, SSIM and MS-SSIM of planes, against what FFmpeg's filters say of whole files and a plain implementation."""

import math
import re
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from dcvc.cli import main
from dcvc.data.conditions import CONDITIONS
from dcvc.data.eval_sequences import open_sequences
from dcvc.errors import InputError
from dcvc.evaluation import sequence_recorder
from dcvc.evaluation.metric_names import chosen_metrics
from dcvc.evaluation.metrics import MS_SSIM_WEIGHTS
from dcvc.evaluation.plane_metrics import planes_ms_ssim
from dcvc.evaluation.sequence_recorder import SequenceRecorder
from dcvc.report.results import read_results

SIZE, FRAMES = (208, 176), 6


def waves(folder, depth=8, noise=0.0):
    """A .yuv file of moving waves; noise in shares of the largest sample, more in later frames."""
    rng, largest, data = np.random.default_rng(3), (1 << depth) - 1, b""
    for t in range(FRAMES):
        for number, (height, width) in enumerate([SIZE[::-1]] + [(SIZE[1] // 2, SIZE[0] // 2)] * 2):
            y, x = np.mgrid[:height, :width]
            wave = 0.5 + 0.3 * np.sin(x / 5 + y / 9 + 2 * t + number) * np.cos(y / 7 - t)
            shown = (wave + rng.normal(0, noise * (1 + t), wave.shape) if noise else wave) * largest
            data += shown.round().clip(0, largest).astype(np.uint8 if depth == 8 else "<u2").tobytes()
    path = folder / f"waves{noise:g}_{SIZE[0]}x{SIZE[1]}_50fps_{depth}bit_420.yuv"
    path.write_bytes(data)
    return path


def filter_says(name, pixels, original, decoded):
    """The last words of FFmpeg's filter about two files: {"y", "u", "v"}."""
    graph, kind = av.filter.Graph(), np.uint8 if pixels == "yuv420p" else np.uint16
    node, sink = graph.add(name), graph.add("buffersink")
    sources = [graph.add("buffer", f"video_size={SIZE[0]}x{SIZE[1]}:pix_fmt={pixels}:time_base=1/50:frame_rate=50")
               for _ in range(2)]
    for number, source in enumerate(sources):
        source.link_to(node, 0, number)
    node.link_to(sink)
    graph.configure()
    for source, path in zip(sources, (original, decoded), strict=True):
        for number, frame in enumerate(np.fromfile(path, kind).reshape(FRAMES, -1, SIZE[0])):
            made = av.VideoFrame.from_ndarray(frame, format=pixels)
            made.pts, made.time_base = number, Fraction(1, 50)
            source.push(made)
        source.push(None)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as logged:
            for _ in range(FRAMES):
                sink.pull()
            del graph, node, sink, sources, source            # the filter speaks when it ends
    finally:
        av.logging.set_level(level)
    words = "".join(message for _, _, message in logged)
    return {plane: float(value) for plane, value in re.findall(r"([yuv])\s?: ?([\d.]+)", words.lower())}


@pytest.mark.parametrize("depth", [8, 10])
def test_filters_say_the_same_of_whole_files(tmp_path, depth):
    original, decoded = waves(tmp_path, depth), waves(tmp_path, depth, noise=0.004)
    pairs = [open_sequences(path, conditions=CONDITIONS["microsoft"])[0] for path in (original, decoded)]
    metrics = ("psnr", "psnr_planes", "ssim_planes", "xpsnr")
    recorder = SequenceRecorder(pairs[0], 1, None, metrics)
    for source, coded in zip(*(sequence.source_frames() for sequence in pairs), strict=True):
        planes = tuple(plane[0] for plane in (coded.planes.y, coded.planes.u, coded.planes.v))
        recorder.add("P", 1, source.rgb, coded.rgb, source=source.planes, decoded=planes)
    found = recorder.result()
    pixels = "yuv420p" if depth == 8 else "yuv420p10le"
    theirs = filter_says("xpsnr", pixels, original, decoded)
    assert [found[f"xpsnr_{plane}"] for plane in "yuv"] == pytest.approx([theirs[p] for p in "yuv"], abs=0.005)
    assert found["xpsnr"] == pytest.approx((6 * theirs["y"] + theirs["u"] + theirs["v"]) / 8, abs=0.005)
    assert abs(found["xpsnr_y"] - found["psnr_y"]) > 0.05                  # it is no PSNR
    theirs = filter_says("ssim", pixels, original, decoded)
    for plane in "yuv":
        ours, wanted = (-10 * math.log10(1 - value) for value in (found[f"ssim_{plane}"], theirs[plane]))
        assert ours == pytest.approx(wanted, abs=0.005)


def plain_ms_ssim(x, y, peak, scales=5):
    """Wang et al. 2003, equation 7, by SciPy's convolution."""
    ramp = np.arange(11) - 5
    window = np.exp(-np.add.outer(ramp**2, ramp**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2, product = (0.01 * peak) ** 2, (0.03 * peak) ** 2, 1.0
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    for scale, weight in enumerate(weights):
        mx, my, xx, yy, xy = (convolve2d(a, window, "valid") for a in (x, y, x * x, y * y, x * y))
        contrast = (2 * (xy - mx * my) + c2) / (xx - mx**2 + yy - my**2 + c2)
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        last = scale == scales - 1
        product *= (contrast * luminance if last else contrast).mean() ** weight
        x, y = (a[:a.shape[0] // 2 * 2, :a.shape[1] // 2 * 2].reshape(a.shape[0] // 2, 2, -1, 2).mean((1, 3))
                for a in (x, y))
    return product


def test_ms_ssim_of_a_plane_is_the_papers(tmp_path):
    pairs = [open_sequences(waves(tmp_path, 10, noise), conditions=CONDITIONS["microsoft"])[0]
             for noise in (0.0, 0.02)]
    source, coded = (next(sequence.source_frames()).planes for sequence in pairs)
    planes = [(one.y[0], one.u[0], one.v[0]) for one in (source, coded)]
    ours = planes_ms_ssim(planes[1], source)
    # 88 rows of chroma have room for four scales.
    wanted = [plain_ms_ssim(a.double().numpy(), b.double().numpy(), 1023, scales)
              for a, b, scales in zip(*planes, (5, 4, 4), strict=True)]
    assert ours == pytest.approx(wanted, abs=1e-4)
    assert 0.5 < min(ours) < max(ours) < 0.999


def test_only_what_is_asked_for_is_computed(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("measured without being asked for")

    for name in ("planes_of", "planes_mse", "planes_ms_ssim"):
        monkeypatch.setattr(sequence_recorder, name, never)
    monkeypatch.setattr("dcvc.evaluation.metrics.ms_ssim", never)
    monkeypatch.setattr("dcvc.evaluation.metrics.yuv_mse", never)
    path, out = waves(tmp_path), tmp_path / "anchors.json"
    call = ["compare", str(path), "--conditions", "microsoft", "--anchors", "x264:30", "--max_frames", "2", "--quiet",
            "--no_cache", "-o", str(out)]
    assert main([*call, "--metrics", "psnr"]) == 0
    assert set(read_results(out)["points"][0]["mean"]) == {"bpp", "psnr", "psnr_of_mean_mse"}
    monkeypatch.undo()
    assert main([*call, "--metrics", "psnr_planes", "ms_ssim_planes", "xpsnr", "ssim_planes"]) == 0
    mean = read_results(out)["points"][0]["mean"]
    assert {"psnr_planes", "xpsnr_v", "ms_ssim_planes", "ms_ssim_u", "ssim_planes"} <= set(mean)
    assert not {"psnr_yuv", "ms_ssim"} & set(mean)


def test_codecs_of_rgb_and_copying_are_measured_so_too(tmp_path):
    """A copy shows the I-frame's picture, but has a past of its own: XPSNR must see it."""
    path = waves(tmp_path)
    sequence, = open_sequences(path, conditions=CONDITIONS["microsoft"])
    recorders = [SequenceRecorder(sequence, 1, None, ("psnr", "xpsnr")) for _ in range(2)]
    from dcvc.evaluation.copy_recorder import CopyRecorder
    both = CopyRecorder(*recorders)
    for number, frame in enumerate(sequence.source_frames()):
        shown = (frame.rgb.int() + 3).clamp(0, 255).to(torch.uint8)
        both.add("I" if number % 3 == 0 else "P", 8, frame.rgb, shown, {}, frame.planes)
    entries = both.results()
    assert entries[""]["xpsnr_y"] > entries["copy"]["xpsnr_y"] + 5 > 10


@pytest.mark.parametrize(("asked", "words"), [
    (["psnrr"], "found 'psnrr', needed some of psnr, psnr_yuv"), (["xpsnr"], "needed --conditions microsoft beside it"),
    (["lpips"], "needed its weights by --lpips_weights"),
])
def test_what_cannot_be_measured_is_one_line(tmp_path, capsys, asked, words):
    path = waves(tmp_path)
    assert main(["compare", str(path), "--anchors", "x264", "--metrics", *asked, "-o", str(tmp_path / "x.json")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "x.json").exists()


def test_the_usual_metrics_are_those_of_before():
    assert chosen_metrics(None, planes=False, lpips=False) == ("psnr", "psnr_yuv", "ms_ssim")
    assert chosen_metrics(None, planes=True, lpips=True) == ("psnr", "psnr_yuv", "ms_ssim", "psnr_planes", "lpips")
    assert chosen_metrics(["xpsnr"], planes=True, lpips=False) == ("psnr", "xpsnr")


@pytest.mark.parametrize("depth", [8, 10])
def test_vmaf_is_the_packages_own_figure(tmp_path, depth):
    package = pytest.importorskip("vmaf_torch", reason="the extra dcvc[vmaf] is not installed")
    pairs = [open_sequences(waves(tmp_path, depth, noise), conditions=CONDITIONS["microsoft"])[0]
             for noise in (0.0, 0.03)]
    recorder, lumas = SequenceRecorder(pairs[0], 1, None, ("psnr", "vmaf")), []
    for source, coded in zip(*(sequence.source_frames() for sequence in pairs), strict=True):
        planes = tuple(plane[0] for plane in (coded.planes.y, coded.planes.u, coded.planes.v))
        recorder.add("P", 1, source.rgb, coded.rgb, source=source.planes, decoded=planes)
        lumas.append([one.planes.y.float() * (255 / ((1 << depth) - 1)) for one in (source, coded)])
    reference, distorted = (torch.stack(each) for each in zip(*lumas, strict=True))
    with torch.no_grad():
        wanted = float(package.VMAF(clip_score=True, temporal_pooling=True)(reference, distorted))
    assert 10 < wanted < 99
    assert recorder.result()["vmaf"] == pytest.approx(wanted, abs=0.005)


def test_vmaf_without_its_package_is_named(monkeypatch):
    monkeypatch.setattr("dcvc.evaluation.metric_names.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"found vmaf, needed the package vmaf-torch: pip install 'dcvc\[vmaf\]'"):
        chosen_metrics(["vmaf"], planes=True, lpips=False)
