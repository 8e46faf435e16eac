"""Exact streams under another architecture: decoded by qemu-user with that architecture's Python and torch.

    python benchmarks/exact_qemu.py FOLDER [--output benchmarks/exact_qemu.json]

FOLDER holds what the other architecture needs; the steps that fill it, as shell commands from inside it (Debian
and PyPI, nothing is installed):

    apt-get download qemu-user-static && dpkg -x qemu-user-static*.deb qemu
    apt-get -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists=$PWD/lists update
    apt-get (the same options) download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1
        libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1 libgomp1
    for each of these: dpkg -x FILE.deb root
    pip download --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --python-version 3.11
        --only-binary=:all: --no-deps torch==2.9.1 numpy==2.4.6 numba==0.68.1 llvmlite==0.50.0 safetensors==0.8.0
    for each of these: python -m zipfile -e FILE.whl site
    pure Python packages of this machine (sympy, mpmath, networkx, jinja2, markupsafe, filelock, fsspec,
        typing_extensions.py): copied to pure

constriction has no wheel for this architecture. In its place stands a module of thirty lines of Python integers, made
here from docs/bitstream.md ("Entropy coding"): what is compared are dcvc's networks and arithmetic.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from kit.exact_streams import moving_frames

ROOT = Path(__file__).resolve().parents[1]
SIZE, FRAMES = (48, 64), 3
# What runs on both sides.
DECODE = """
import hashlib, io, json, platform, sys, time
import numpy, torch
from pathlib import Path
from dcvc.checkpoint import load_codec
from dcvc.codec.stream_reader import StreamReader
torch.set_num_threads(1)
found = {}
for path in map(Path, sys.argv[1:]):
    began = time.time()
    codec = load_codec(path.stem.rpartition("_")[0])
    frames = list(codec.decode(StreamReader(io.BytesIO(path.read_bytes()), path.name)))
    pixels = b"".join(frame.contiguous().numpy().tobytes() for frame in frames)
    found[path.name] = {"frames": len(frames), "sha256": hashlib.sha256(pixels).hexdigest(),
                        "seconds": round(time.time() - began, 1)}
print(json.dumps({"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__,
                  "numpy": numpy.__version__, "numba": "numba" in sys.modules, "streams": found}))
"""
# The decoding half of what dcvc takes from constriction.
STAND_IN = '''
import sys, types
import numpy as np

class Categorical:
    def __init__(self, weights, perfect=False):
        frequencies = np.asarray(weights).astype(np.int64) + 1
        assert frequencies.sum() == 1 << 24
        self.starts = np.concatenate([[0], np.cumsum(frequencies)])

class Uniform:
    def __init__(self, size):
        self.starts = np.arange(size + 1, dtype=np.int64) * ((1 << 24) // size)

class AnsCoder:
    def __init__(self, words):
        self.words = [int(word) for word in words]
        self.state = 0
        while self.words and self.state < 1 << 32:
            self.state = self.state << 32 | self.words.pop()
    def decode(self, model, count):
        entries = np.empty(count, dtype=np.int32)
        for i in range(count):
            q = self.state & ((1 << 24) - 1)
            entry = int(np.searchsorted(model.starts, q, side="right")) - 1
            start = int(model.starts[entry])
            self.state = (self.state >> 24) * (int(model.starts[entry + 1]) - start) + q - start
            if self.state < 1 << 32 and self.words:
                self.state = self.state << 32 | self.words.pop()
            entries[i] = entry
        return entries
    def is_empty(self):
        return not self.words and self.state in (0, 1)

stream = types.SimpleNamespace(stack=types.SimpleNamespace(AnsCoder=AnsCoder),
                               model=types.SimpleNamespace(Categorical=Categorical, Uniform=Uniform))
'''


def write_streams(folder: Path, models: list[str]) -> list[Path]:
    """An exact stream and a float one of each model, coded here."""
    from dcvc.checkpoint import load_codec

    paths = []
    for model in models:
        codec, frames = load_codec(model), moving_frames(FRAMES, SIZE)
        for form, coder in (("exact", codec.exact_form()), ("float", codec)):
            file = io.BytesIO()
            # A float stream without checksums: what differs is to be counted, and decoding would stop at it.
            header = coder.header(SIZE, Fraction(25), FRAMES, FRAMES, source=b"test",
                                  reconstruction_crc=form == "exact")
            list(coder.encode(frames, header, file, quality=40))
            paths.append(folder / f"{model}_{form}.dcvc")
            paths[-1].write_bytes(file.getvalue())
    return paths


def decoded(command: list[str], environment: dict[str, str], paths: list[Path]) -> dict:
    done = subprocess.run([*command, "-c", DECODE, *map(str, paths)], env=os.environ | environment,
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]}: failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["light-s", "light-m"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    # Debian's libraries stand where the other architecture's programs look for them.
    root, library = folder / "root", "usr/lib/aarch64-linux-gnu"
    stand_in = folder / "stand_in"
    stand_in.mkdir(exist_ok=True)
    (stand_in / "constriction.py").write_text(STAND_IN)
    command = [str(folder / "qemu/usr/bin/qemu-aarch64-static"), "-L", str(root)]
    inside = {"LD_LIBRARY_PATH": f"{root}/{library}:{root}/lib/aarch64-linux-gnu", "PYTHONHOME": f"{root}/usr",
              "PYTHONPATH": f"{folder}/site:{folder}/pure:{stand_in}:{ROOT}", "OMP_NUM_THREADS": "1",
              "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": f"{folder}/numba"}
    command += [word for pair in inside.items() for word in ("-E", "=".join(pair))]
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_streams(Path(scratch), options.models)
        here = decoded([sys.executable], {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, paths)
        there = decoded([*command, f"{root}/usr/bin/python3.11"], {}, paths)
    differing = [name for name, found in here["streams"].items() if found["sha256"] != there["streams"][name]["sha256"]]
    record = {
        "command": f"python benchmarks/exact_qemu.py FOLDER --models {' '.join(options.models)}",
        "size": SIZE, "frames": FRAMES, "here": here, "there": there,
        "qemu": subprocess.run([command[0], "--version"], capture_output=True, text=True).stdout.splitlines()[0],
        "exact streams that differ": [name for name in differing if "_exact" in name],
        "float streams that differ": [name for name in differing if "_float" in name]}
    text = json.dumps(record, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
