"""Whole clips coded and decoded in another process: pictures bit for bit, bytes against the estimate, both I-frame
codecs, thread counts crossed. Models are small and untrained: what is tested does not depend on their quality."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from kit.light_models import SMALL_LIGHT, SMALL_LIGHT_INTRA, stirred, wandering_quality
from kit.vqgan import make_rated_vqgan
from PIL import Image

from dcvc.checkpoint import give_ranges, i_frame_content, load_codec, write_codecs
from dcvc.codec.video_codec import VideoCodec
from dcvc.config import to_dict
from dcvc.data import VideoReader
from dcvc.entropy.frame_head import FrameHead
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.light.config import LightConfig
from dcvc.inter.registry import build_p_frame, inter_entry
from dcvc.intra.compressai import import_zoo
from dcvc.intra.config import IntraConfig
from dcvc.intra.light.model import LightIFrameModel
from dcvc.weights import write_checkpoint

SMALL = DCVCConfig(4, 8, 8, 4, (4, 4, 4, 4), 4)
KINDS = ("compressai", "vqgan")
LIGHT_KINDS = (*KINDS, "light")


REFRESH = 3         # frames


def make_runs(folder: Path, config: DCVCConfig | LightConfig = SMALL) -> dict[str, Path]:
    """One untrained checkpoint for each kind of I-frame codec -> {kind: its path}."""
    torch.manual_seed(0)
    zoo = import_zoo()["bmshj2018-hyperprior"](quality=1, pretrained=False)
    torch.save(zoo.state_dict(), folder / "zoo.pt")
    json_file, weights = make_rated_vqgan(folder)
    intra = {"compressai": IntraConfig("compressai", "bmshj2018-hyperprior", 1, False, str(folder / "zoo.pt")),
             "vqgan": IntraConfig("vqgan", vqgan_config=str(json_file), vqgan_checkpoint=str(weights)),
             "light": IntraConfig("light", checkpoint=str(folder / "light_intra.pt"))}
    torch.manual_seed(0)
    i_frame = stirred(LightIFrameModel(SMALL_LIGHT_INTRA))
    write_checkpoint(folder / "light_intra.pt", i_frame_content(i_frame))
    torch.manual_seed(0)
    model, paths = build_p_frame(config), {}
    if isinstance(config, LightConfig):
        stirred(model)
    for kind, chosen in intra.items():
        paths[kind] = folder / f"{kind}_run.pt"
        write_checkpoint(paths[kind], {"model": model.state_dict(), "inter": inter_entry(config),
                                       "intra": to_dict(chosen), "settings": {}, "progress": {}})
    if isinstance(config, LightConfig):
        # With ranges, so that its streams are exact.
        paths["exact"] = folder / "exact_run.pt"
        write_codecs(paths["exact"], model, i_frame)
        give_ranges(paths["exact"])
    return paths


def _frames(clip: Path, count: int, seen: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    for frame in islice(VideoReader(clip), count):
        seen[:] = [frame]
        yield frame


@torch.no_grad()
def round_trip(clip: Path, run: Path, folder: Path, count: int, gop: int, threads: int, decoder_threads: int,
               **options) -> dict:
    """Encode the first `count` frames here with `threads`, decode in another process whose own number is
    `decoder_threads` -> equality, bytes, estimate (I-frames by the codec's likelihoods, P-frames by the model's).
    options: of VideoCodec.encode."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begin = time.perf_counter()
        codec, expected, terms, payload, seen = load_codec(run).form(), [], {}, 0, []
        reader = VideoReader(clip)
        count = min(count, len(reader))
        file = io.BytesIO()
        header = codec.header(reader.size, reader.fps, count, gop, source=b"test")
        for item in codec.encode(_frames(clip, count, seen), header, file, **options):
            expected.append(item.x_hat)
            payload += len(item.record.payload)
            bits = item.bits if item.record.name == "P" else _intra_bits(codec, seen[0], item.record.head)
            for term, value in bits.items():
                terms[term] = terms.get(term, 0.0) + float(value)
        encoded = time.perf_counter()
    finally:
        torch.set_num_threads(before)
    stream, pictures = folder / "clip.dcvc", folder / f"{clip.stem}_{run.stem}_{threads}"
    stream.write_bytes(file.getvalue())
    subprocess.run([sys.executable, "-m", "dcvc.cli", "decode", str(stream), str(pictures), "--model", str(run),
                    "--quiet", "--device", "cpu"], check=True,
                   env={**os.environ, "OMP_NUM_THREADS": str(decoder_threads), "OMP_WAIT_POLICY": "PASSIVE"})
    files = sorted(pictures.iterdir())
    same = sum(np.array_equal(np.asarray(Image.open(found)), x_hat.permute(1, 2, 0).numpy())
               for found, x_hat in zip(files, expected, strict=True))
    for found in files:
        found.unlink()
    size, estimate = stream.stat().st_size, sum(terms.values()) / 8
    return {"clip": clip.name, "width": reader.size[1], "height": reader.size[0], "intra": run.stem.split("_")[0],
            "exact": codec.exact, "frames": count, "identical_frames": same, "encoder_threads": threads,
            "decoder_default": decoder_threads,
            "bytes": size, "container_bytes": size - payload, "estimated_bytes": estimate,
            "gap_percent_beside_container": 100 * (payload - estimate) / estimate,
            "within_1_percent_and_container": abs(size - estimate) <= 0.01 * estimate + size - payload,
            "encode_seconds": encoded - begin, "decode_seconds": time.perf_counter() - encoded}


def _intra_bits(codec: VideoCodec, frame: torch.Tensor, head: FrameHead | None) -> dict[str, torch.Tensor]:
    return codec.intra.forward(frame[None].float() / 255, head and head.quality).bits


def bench_round_trips(clips: list[Path], folder: Path, count: int = 16, gop: int = 16,
                      light: bool = False) -> Iterator[dict]:
    """Every clip with every I-frame codec, coded with one thread for a decoder of two and the other way round.

    light: by the light P-frame codec, at another quality for every frame, and with refreshes."""
    runs, kinds = make_runs(folder, SMALL_LIGHT if light else SMALL), LIGHT_KINDS if light else KINDS
    options = {"quality": wandering_quality, "refresh": REFRESH} if light else {}
    for clip in clips:
        for kind in kinds:
            for threads, other in ((1, 2), (2, 1)):
                yield round_trip(clip, runs[kind], folder, count, gop, threads, other, **options)
