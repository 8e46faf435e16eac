"""How fast readers give training samples from a folder of videos: ours, OpenCV, torchcodec, a PNG folder, the bound.

All readers take the same samples (file, start, crop), in turns within one run; the medians are compared. The clock is
the process's CPU time, every decoder having one thread: what other programs do to the machine counts little then.
A sample is `gop` frames at a random start, cropped. "opened" means a file opened anew for each sample; all others keep
theirs open. "first reads" are those of a reader that knows nothing yet of what it may skip.
"""

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from dcvc.data import VideoGOPDataset
from dcvc.data.video_table import VideoTable
from dcvc.errors import InputError
from dcvc.video.container import open_decoder
from dcvc.video.file_index import FileIndex
from dcvc.video.frame_stack import Planes
from dcvc.video.images import read_image
from dcvc.video.reader import VideoReader

Sample = tuple[int, int, tuple[int, int, int, int]]  # row, start, crop
CROPS = 4  # of the rows that take several from one decoding


def bench_data(table: VideoTable, *, gop: int = 7, crop: int = 256, samples: int = 40, seed: int = 0,
               png: bool = False, prepared: dict[tuple[int, int], VideoReader] | None = None) -> dict:
    """Median CPU milliseconds per sample of every reader, and how many times ours (RGB, not verified) that is.

    prepared: (row, number of the segment) -> its reader, for the row "dcvc prepared".
    """
    rows = np.flatnonzero((table.frames >= gop) & (np.minimum(table.height, table.width) >= crop))
    if not len(rows):
        raise InputError(f"no video has {gop} frames of at least {crop}x{crop}; choose --crop_size or --gop_size")
    rng = np.random.default_rng(seed)
    chosen = [_draw(table, int(rng.choice(rows)), gop, crop, rng) for _ in range(samples)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            readers = _readers(table, gop, chosen, Path(folder) if png else None)
            if prepared:
                readers["dcvc prepared"] = lambda s: _prepared(prepared, s, gop)
            times: dict[str, list[float]] = {name: [] for name in readers}
            for read in readers.values():
                read(chosen[0])
            for turn, sample in enumerate(chosen):
                for name, read in _rotated(list(readers.items()), turn):
                    began = time.process_time()
                    read(sample)
                    share = CROPS if name.startswith(f"dcvc {CROPS} crops") else 1
                    times[name].append(1000 * (time.process_time() - began) / share)
    finally:
        torch.set_num_threads(threads)
    return {"samples": samples, "gop": gop, "crop": crop, "clock": "CPU time",
            "readers": {name: {"ms": round(statistics.median(values), 2), "mean_ms": round(statistics.mean(values), 2),
                               "times_ours": compared(values, times["dcvc"])["medians"]}
                        for name, values in times.items()},
            "ratios": _ratios(times)}


def _rotated(items: list, turn: int) -> list:
    """Each reader finds the processor's caches as another left them: none is always the first, or after the same."""
    first = turn % len(items)
    return items[first:] + items[:first] if turn // len(items) % 2 == 0 else (items[first:] + items[:first])[::-1]


def compared(slow: list[float], fast: list[float]) -> dict[str, float]:
    """One reader's time divided by another's for the same samples: of their medians, of their means (the whole run),
    and the median over samples."""
    return {"medians": round(statistics.median(slow) / statistics.median(fast), 3),
            "means": round(sum(slow) / sum(fast), 3),
            "samples": round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 3)}


def _ratios(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """The comparisons people ask for."""
    pairs = [(slow, fast) for slow in ("opencv opened", "torchcodec kept open", "png folder", "bound (decode only)")
             for fast in ("dcvc", "dcvc first reads", "dcvc verified", "dcvc planes", "dcvc verified planes",
                          f"dcvc {CROPS} crops", "dcvc prepared")]
    return {f"{slow} / {fast}": compared(times[slow], times[fast])
            for slow, fast in pairs if slow in times and fast in times}


def bench_workers(video_dir: str | list[str], *, gop: int = 7, crop: int = 256, samples: int = 160,
                  rounds: int = 3) -> dict:
    """Samples per second (wall clock) of a DataLoader with one worker and with two, in turns; medians."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    data = VideoGOPDataset(video_dir, gop, None, crop, seed=0, samples_per_video=1 << 20)
    for round_ in range(rounds):
        for workers, found in rates.items():
            indices = np.random.default_rng(round_).integers(len(data), size=samples + 16).tolist()
            loader = iter(DataLoader(data, batch_size=4, sampler=indices, num_workers=workers))
            for _ in range(4):
                next(loader)  # workers start and open files
            began = time.perf_counter()
            done = sum(len(batch) for batch in loader)
            found.append(done / (time.perf_counter() - began))
    medians = {workers: statistics.median(found) for workers, found in rates.items()}
    return {"gop": gop, "crop": crop, "samples": samples, "rounds": rounds,
            "samples_per_second": {workers: round(value, 2) for workers, value in medians.items()},
            "two_workers_over_one": round(statistics.median(b / a for a, b in zip(rates[1], rates[2], strict=True)), 3)}


def _draw(table: VideoTable, row: int, gop: int, crop: int, rng: np.random.Generator) -> Sample:
    top, left = (int(rng.integers(size - crop + 1)) for size in (int(table.height[row]), int(table.width[row])))
    return row, int(rng.integers(int(table.frames[row]) - gop + 1)), (top, left, crop, crop)


def _readers(table: VideoTable, gop: int, chosen: list[Sample], folder: Path | None) -> dict[str, Callable]:
    rows = {s[0] for s in chosen}

    def ours(read: Callable, verified: bool = False, verified_until: dict[int, int] | None = None) -> Callable:
        """Reading by readers of its own: what one comparison finds free of errors must not speed up another."""
        kept = {row: VideoReader(table.path(row), index=replace(table.row(row), verified=verified),
                                 verified_until=verified_until) for row in rows}
        return lambda s: read(kept[s[0]], s)

    def rgb(reader: VideoReader, s: Sample) -> Tensor:
        return reader.read(s[1], gop, s[2])

    def planes(reader: VideoReader, s: Sample) -> Planes:
        return reader.read(s[1], gop, s[2], out="yuv")

    def crops(reader: VideoReader, s: Sample) -> list[Tensor]:
        return reader.read_crops(s[1], gop, [s[2]] * CROPS)

    def first(reader: VideoReader, s: Sample) -> Tensor:
        known.clear()
        return rgb(reader, s)

    known: dict[int, int] = {}
    streams = {row: (table.row(row), open_decoder(table.path(row))) for row in rows}
    readers = {
        "dcvc": ours(rgb),
        "dcvc first reads": ours(first, verified_until=known),
        "dcvc verified": ours(rgb, verified=True),
        "dcvc planes": ours(planes),
        "dcvc verified planes": ours(planes, verified=True),
        f"dcvc {CROPS} crops": ours(crops),
        f"dcvc {CROPS} crops verified": ours(crops, verified=True),
        "bound (decode only)": lambda s: _decode_only(*streams[s[0]], s[1], gop),
    }
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        readers["opencv opened"] = lambda s: _opencv(cv2, table.path(s[0]), s, gop)
    if importlib.util.find_spec("torchcodec"):
        from torchcodec.decoders import VideoDecoder

        decoders = {row: VideoDecoder(table.path(row), num_ffmpeg_threads=1) for row in rows}
        readers["torchcodec kept open"] = lambda s: _torchcodec(decoders[s[0]], s, gop)
    if folder is not None:
        _write_pictures(table, chosen, gop, folder)
        readers["png folder"] = lambda s: torch.stack(
            [read_image(str(folder / f"{s[0]}_{s[1] + t}.png"), s[2]) for t in range(gop)])
    return readers


def _decode_only(index: FileIndex, opened: tuple, start: int, gop: int) -> None:
    """The bound: seek and decode the very packets a sample needs, throw the frames away. opened: of open_decoder."""
    container, stream = opened
    pts = index.pts[start: start + gop]
    key = index.keys[index.keys.searchsorted(pts[0], "right") - 1]
    container.seek(int(key), stream=stream, backward=True)
    waiting, context = set(pts.tolist()), stream.codec_context
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        context.decode(packet)
        waiting.discard(packet.pts)
        if not waiting:
            break
    context.decode(None)


def _prepared(readers: dict[tuple[int, int], VideoReader], sample: Sample, gop: int) -> Tensor:
    """A sample of the same file from its prepared segments: the same start, moved where a segment would end."""
    row, start, crop = sample
    length = len(readers[row, 0])
    reader = readers[row, start // length] if (row, start // length) in readers else readers[row, 0]
    return reader.read(max(0, min(start % length, len(reader) - gop)), gop, crop)


def _opencv(cv2, path: str, sample: Sample, gop: int) -> Tensor:
    _, start, (top, left, height, width) = sample
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = []
    for _ in range(gop):
        ok, frame = capture.read()
        if ok:
            frames.append(cv2.cvtColor(frame[top: top + height, left: left + width], cv2.COLOR_BGR2RGB))
    capture.release()
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous() if frames else torch.empty(0)


def _torchcodec(decoder, sample: Sample, gop: int) -> Tensor:
    _, start, (top, left, height, width) = sample
    return decoder[start: start + gop][:, :, top: top + height, left: left + width].contiguous()


def _write_pictures(table: VideoTable, chosen: list[Sample], gop: int, folder: Path) -> None:
    for row, start, _ in chosen:
        with VideoReader(table.path(row), index=table.row(row)) as reader:
            for t, frame in enumerate(reader.read(start, gop)):
                path = folder / f"{row}_{start + t}.png"
                if not path.exists():
                    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)


def as_table(result: dict) -> str:
    """The result as lines of text; ratios above 1 are slower than ours."""
    lines = [f"{result['gop']} frames, crop {result['crop']}, {result['samples']} samples (medians of CPU time)",
             f"{'reader':<24}{'ms/sample':>10}{'x ours':>9}"]
    lines += [f"{name:<24}{entry['ms']:>10}{entry['times_ours']:>9}" for name, entry in result["readers"].items()]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """What the peers were, for records."""
    found = {"av": av.__version__, "torch": torch.__version__}
    for name in ("cv2", "torchcodec"):
        if importlib.util.find_spec(name):
            found[name] = importlib.import_module(name).__version__
    return found
