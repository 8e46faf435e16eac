"""Copying: the last I-frame shown again, at the bits of the I-frames alone."""

import pytest
import torch

from dcvc.data.eval_sequences import EvalSequence
from dcvc.evaluation.copy_recorder import CopyRecorder
from dcvc.evaluation.metrics import psnr
from dcvc.evaluation.sequence_recorder import SequenceRecorder

SEQUENCE = EvalSequence(name="s", path="s", width=40, height=24, fps=25.0, frames=5, colour="rgb")


def frames(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, 24, 40), generator=generator, dtype=torch.uint8) for _ in range(count)]


def test_copying_shows_the_last_i_frame_and_costs_nothing_between(tmp_path):
    originals, decoded = frames(5, 0), frames(5, 1)
    recorders = [SequenceRecorder(SEQUENCE, 2, tmp_path / name) for name in ("own.png", "copy.png")]
    recorder = CopyRecorder(*recorders)
    kinds, bits = "IPPIP", (900, 80, 70, 880, 90)
    for kind, size, x, x_hat in zip(kinds, bits, originals, decoded, strict=True):
        recorder.add(kind, size, x, x_hat, {"y": float(size)})
    entries = recorder.results(2100, encode_seconds=1.0)
    own, copy = entries[""], entries["copy"]
    assert (own["bits"], own["encode_seconds"], own["per_frame"]["bits"]) == (2100, 1.0, list(bits))
    assert (copy["bits"], copy["per_frame"]["bits"]) == (1780, [900, 0, 0, 880, 0])
    assert "encode_seconds" not in copy
    shown = [decoded[number] for number in (0, 0, 0, 3, 3)]
    expected = [psnr(x_hat / 255, x / 255) for x_hat, x in zip(shown, originals, strict=True)]
    assert copy["per_frame"]["psnr"] == pytest.approx(expected, abs=1e-5)
    assert own["bpp"] == 2100 / (40 * 24 * 5)


def test_without_copying_there_is_the_codec_alone():
    recorder = CopyRecorder(SequenceRecorder(SEQUENCE, 2, None), None)
    for kind, x in zip("IPPIP", frames(5, 0), strict=True):
        recorder.add(kind, 10, x, x, {})
    entries = recorder.results()
    assert list(entries) == [""]
    assert entries[""]["bits"] == 50
