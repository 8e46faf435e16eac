"""Speed of the readers on small clips (256x256 4:4:4, and 448x256 4:2:0) and on 1080p with a keyframe every 30 and
every 250, made from real footage.

`python benchmarks/data_speed.py make FOLDER --clips ../shared/clips/train` writes the four sets and the prepared one;
`python benchmarks/data_speed.py run FOLDER --out benchmarks/data_speed.json` measures (OpenCV and torchcodec where
installed); `... workers FOLDER --out benchmarks/data_workers.json` the loader with one and two workers
(needs both cores).
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import av

from dcvc.bench.data import bench_data, bench_workers, versions
from dcvc.data.prepare import prepare
from dcvc.data.video_table import build_table
from dcvc.video.reader import VideoReader

SMALL = ("udacity_solidWhiteRight.mp4", "mdn_flower.mp4", "mdn_frog.mp4", "libopenshot_run.mp4")
LARGE = "sam2_01_dog.mp4"


def encode(source: Path, target: Path, size: tuple[int, int], keyframe: int, frames: int,
           pix_fmt: str = "yuv420p") -> None:
    with av.open(str(source)) as video, av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = *size, pix_fmt, 1
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "3",
                          "x264-params": f"keyint={keyframe}:min-keyint={keyframe}:scenecut=0"}
        for t, frame in enumerate(video.decode(video=0)):
            if t == frames:
                break
            scaled = frame.reformat(*size, pix_fmt)
            scaled.pts, scaled.time_base = t, Fraction(1, 30)
            out.mux(stream.encode(scaled))
        out.mux(stream.encode(None))


def make(folder: Path, clips: Path) -> None:
    for name in ("small444", "small", "hd30", "hd250"):
        (folder / name).mkdir(parents=True)
    for name in SMALL:
        encode(clips / name, folder / "small444" / name, (256, 256), 30, 150, "yuv444p")
        encode(clips / name, folder / "small" / name, (448, 256), 30, 150)
    encode(clips / LARGE, folder / "hd30" / LARGE, (1920, 1080), 30, 289)
    encode(clips / LARGE, folder / "hd250" / LARGE, (1920, 1080), 250, 289)
    prepare(build_table([str(folder / "hd250")]), folder / "prepared")


def run(folder: Path, samples: int) -> dict:
    result = {}
    for name, count in (("small444", 4 * samples), ("small", 4 * samples), ("hd30", samples), ("hd250", samples)):
        prepared = None
        print(name, flush=True)
        if name == "hd250":
            manifest = json.loads((folder / "prepared" / "manifest.json").read_text())
            prepared = {(0, k): VideoReader(folder / "prepared" / segment["file"])
                        for k, segment in enumerate(manifest["segments"])}
        result[name] = bench_data(build_table([str(folder / name)]), samples=count, png=name.startswith("small"),
                                  prepared=prepared)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "run", "workers"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--samples", type=int, default=20, help="of each 1080p set; four times as many small ones")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.clips)
        return
    command = f"python benchmarks/data_speed.py {options.what} FOLDER"
    if options.what == "run":
        command += f" --samples {options.samples}"
        result = run(options.folder, options.samples)
    else:
        result = bench_workers(str(options.folder / "small"))
    record = {"command": f"{command} --out {options.out}", "result": result, "versions": versions()}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
