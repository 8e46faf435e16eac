"""Every start of every real clip, one frame each, against a sequential decode of the same file (all three planes).

`python benchmarks/data_starts.py ../shared/clips --out benchmarks/data_starts.json`
"""

import argparse
import json
import zlib
from pathlib import Path

import av
import numpy as np

from dcvc.data import VideoReader
from dcvc.data.video_list import list_videos


def sequential(path: str) -> list[int]:
    """Checksum of each frame's planes, by PyAV alone."""
    with av.open(path) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        stream.codec_context.thread_count = 1
        found = []
        for packet in container.demux(stream):
            for frame in stream.codec_context.decode(packet if packet.size else None):
                found.append(checksum([np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
                                       for plane in frame.planes]))
            if not packet.size:
                return found
    return found


def checksum(planes: list[np.ndarray]) -> int:
    total = 0
    for plane in planes:
        total = zlib.crc32(np.ascontiguousarray(plane), total)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    files = {}
    for path in list_videos(options.folder):
        expected, wrong = sequential(path), 0
        with VideoReader(path) as reader:
            for start in range(len(reader)):
                planes = reader.read(start, 1, out="yuv")
                wrong += checksum([plane[0].numpy() for plane in (planes.y, planes.u, planes.v)]) != expected[start]
            files[Path(path).name] = {"frames": len(expected), "starts": len(reader), "wrong": wrong}
        print(Path(path).name, files[Path(path).name], flush=True)
    record = {"command": f"python benchmarks/data_starts.py CLIPS --out {options.out}",
              "starts": sum(f["starts"] for f in files.values()), "wrong": sum(f["wrong"] for f in files.values()),
              "files": files, "av": av.__version__}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
