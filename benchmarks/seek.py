"""What it takes to begin anywhere in a stream: every start of every validation clip.

    python benchmarks/seek.py ../shared/clips/val --out benchmarks/seek.json

Each clip (its first --frames, at --rows rows) is coded with an I-frame every 16. Then, for every start, --asked frames
are read from there: by a reader that was just opened (as VideoReader does it) and by the decoder behind `dcvc decode
--start`. Measured: whether they equal those of a whole decode; how many frames were decoded, against those since the
last I-frame and those asked for; and the processor's time on one thread, against that many frames' share of a whole
decode. Runs go on where they were: what stands in --out is not done again.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dcvc.checkpoint import load_codec
from dcvc.codec.encoder import Encoder
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.stream_video import StreamVideo
from dcvc.data import VideoReader
from dcvc.files import write_text
from dcvc.interfaces import from_levels, to_levels

PERIOD = 16


def frames_of(path: Path, rows: int, count: int) -> tuple[list[torch.Tensor], float]:
    with VideoReader(path) as reader:
        height, width = reader.size
        size = (rows, round(width * rows / height / 2) * 2)
        return [to_levels(F.interpolate(from_levels(frame)[None], size=size, mode="area"))[0]
                for frame in islice(reader, count)], float(reader.fps)


def decoded_from(codec, path: Path, start: int = 0, count: int | None = None) -> np.ndarray:
    with open(path, "rb") as file:
        frames = islice(codec.decode(StreamReader(file, path.name), start), count)
        return np.stack([frame.permute(1, 2, 0).numpy() for frame in frames])


def measure_start(codec, path: Path, model: str, whole: np.ndarray, start: int, asked: int) -> dict:
    count = min(asked, len(whole) - start)
    video = StreamVideo(str(path), load_codec, model=model)
    begin = time.process_time()
    found = np.stack([frame.to_ndarray() for frame in video.frames(start, count)])
    seconds = time.process_time() - begin
    expected = whole[start: start + count]
    return {"decoded": video.decoded, "needed": start % PERIOD + count, "seconds": seconds,
            "equal": bool(np.array_equal(found, expected)),
            "decode_equal": bool(np.array_equal(decoded_from(codec, path, start, count), expected))}


def measure(codec, model: str, frames: list[torch.Tensor], fps: float, asked: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.dcvc"
        encoder = Encoder(codec, tuple(frames[0].shape[1:]), fps, exact=False, intra_period=PERIOD,
                          frames=len(frames))
        path.write_bytes(b"".join(packet.data for packet in encoder.packets(frames)))
        decoded_from(codec, path, 0, 1)
        begin = time.process_time()
        whole = decoded_from(codec, path)
        a_frame = (time.process_time() - begin) / len(whole)
        starts = [measure_start(codec, path, model, whole, start, asked) for start in range(len(whole))]
    times = [start["seconds"] / start["decoded"] / a_frame for start in starts]
    return {"frames": len(frames), "size": list(frames[0].shape[:0:-1]), "starts": len(starts),
            "differing_starts": sum(not (start["equal"] and start["decode_equal"]) for start in starts),
            "decoded_beyond_needed": max(start["decoded"] - start["needed"] for start in starts),
            "decoded_mean": statistics.fmean(start["decoded"] for start in starts),
            "whole_decode_ms_a_frame": round(1000 * a_frame, 2),
            "seek_ms_median": round(1000 * statistics.median(start["seconds"] for start in starts), 1),
            "seek_ms_most": round(1000 * max(start["seconds"] for start in starts), 1),
            "time_a_decoded_frame_of_a_whole_decodes": {"median": round(statistics.median(times), 3),
                                                        "most": round(max(times), 3)}}


def worst(clips: dict) -> dict:
    return {"starts": sum(clip["starts"] for clip in clips.values()),
            "differing_starts": sum(clip["differing_starts"] for clip in clips.values()),
            "decoded_beyond_needed": max(clip["decoded_beyond_needed"] for clip in clips.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--model", default="light-s")
    parser.add_argument("--rows", type=int, default=108)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--asked", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = load_codec(options.model)
    record = json.loads(options.out.read_text()) if options.out.exists() else {
        "command": f"python benchmarks/seek.py {options.videos} --model {options.model} --rows {options.rows} --frames "
                   f"{options.frames} --asked {options.asked} --out {options.out}",
        "intra_period": PERIOD, "threads": 1, "clips": {}}
    for path in sorted(path for path in options.videos.iterdir() if path.suffix in (".mp4", ".mkv")):
        if path.name not in record["clips"]:
            frames, fps = frames_of(path, options.rows, options.frames)
            record["clips"][path.name] = measure(codec, options.model, frames, fps, options.asked)
            print(path.name, record["clips"][path.name], flush=True)
            write_text(options.out, json.dumps({**record, "all": worst(record["clips"])}, indent=1) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
