"""Videos in a bucket of moto, which imitates S3: the samples, and the prepared set, of the same files in a folder.

moto asks for other versions of packages than s3fs does, so its server has an environment of its own:

    python -m venv MOTO && MOTO/bin/pip install 'moto[server]'
    python benchmarks/remote_bucket.py CLIPS MOTO/bin/python --out benchmarks/remote_bucket.json

tests/video/test_sources.py has the same against a small server of its own, with every fault that a server may have.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dcvc.bench.data import versions
from dcvc.data import VideoGOPDataset
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.data.video_table import build_table
from dcvc.errors import DcvcError
from dcvc.files import write_text
from dcvc.video.reader import VideoReader

FILES, SAMPLES = 6, 48


@contextmanager
def moto(python: str) -> Iterator[str]:
    """The address of a server that runs inside."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with socket.socket() as trial:
                if not trial.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def samples(source: str, workers: int) -> list[torch.Tensor]:
    data = VideoGOPDataset(source, 3, None, 64, seed=0, samples_per_video=SAMPLES // FILES)
    steps = StepSampler(len(data), 4, 0, last_step=SAMPLES // 4)
    return list(step_loader(data, steps, workers, False))


def prepared(source: str, out: Path) -> list[str]:
    """What the segments hold, in the order of their names."""
    subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", "prepare", source, str(out), "--short_side", "64",
                    "--processes", "2", "--quiet"], check=True)
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("*.mp4"))]


def message(source: str, index: object = None) -> str:
    try:
        with VideoReader(source, index=index) as reader:
            reader.read(0, 1)
    except DcvcError as error:
        return str(error)
    raise SystemExit(f"{source} was read")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("python", help="of an environment with moto[server]")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, moto(options.python) as url:
        work, bucket = Path(work), "s3://videos/set"
        os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
                       "AWS_DEFAULT_REGION": "us-east-1", "DCVC_CACHE": str(work / "cache")}
        import s3fs

        store, folder = s3fs.S3FileSystem(endpoint_url=url), work / "set"
        folder.mkdir()
        store.mkdir("videos")
        for path in [path for path in sorted(options.clips.iterdir()) if path.suffix == ".mp4"][:FILES]:
            shutil.copy(path, folder)
            store.put(str(path), f"videos/set/{path.name}")
        there, here = build_table([bucket]), build_table([str(folder)])
        row = there.row(0)
        record = {
            "command": "python benchmarks/remote_bucket.py ../shared/clips/train MOTO/bin/python --out "
                       "benchmarks/remote_bucket.json",
            "versions": versions() | {"s3fs": importlib.metadata.version("s3fs"), "moto": subprocess.check_output(
                [options.python, "-c", "import moto; print(moto.__version__)"], text=True).strip()},
            "files": len(there), "frames": sum(len(one) for one in there.rows()),
            "same names": [Path(one.path).name for one in there.rows()] == [Path(one.path).name for one in here.rows()],
            "samples": SAMPLES,
            "same samples": {f"{workers} workers": all(map(torch.equal, samples(bucket, workers),
                                                           samples(str(folder), workers))) for workers in (0, 2)},
            "same prepared segments": prepared(bucket, work / "a") == prepared(str(folder), work / "b")}
        # Another file under the same name; none.
        store.pipe(f"videos/set/{Path(row.path).name}", bytes(row.file_size))
        shutil.rmtree(work / "cache")
        record["changed"] = message(row.path, row)
        record["missing"] = message(f"{bucket}/none.mp4")
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
