"""Every command looks at its output before it works: inputs stay, foreign files stay, nothing hidden is left."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from io import BytesIO

import av
import numpy as np
import pytest
import sample_videos
from kit.light_models import tiny_light_codec

from dcvc.checkpoint import save_pretrained
from dcvc.cli import main
from dcvc.codec.bitstream import MAGIC
from dcvc.commands.arguments import printable, run_reporting_errors
from dcvc.errors import InputError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    return sample_videos.encode(path, "libx264", sample_videos.textures(2, 32, 48))


@pytest.fixture
def here(tmp_path, monkeypatch, clip):
    monkeypatch.chdir(tmp_path)
    for name in ("in.mp4", "other.mkv"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "same.mp4").symlink_to("in.mp4")
    (tmp_path / "hard.mp4").hardlink_to("in.mp4")
    (tmp_path / "folder").mkdir()
    (tmp_path / "own.dcvc").write_bytes(MAGIC + bytes(40))
    (tmp_path / "own.json").write_text(json.dumps({"schema": "other"}))
    return tmp_path


INPUTS = ("encode in.mp4 in.mp4", "encode in.mp4 same.mp4", "encode hard.mp4 in.mp4 --overwrite",
          "decode own.dcvc own.dcvc", "decode in.mp4 in.mp4", "compare in.mp4 -o same.mp4",
          "index in.mp4 --index hard.mp4",
          "eval in.mp4 --model light-m -o in.mp4 --overwrite", "report own.json -o own.json --overwrite",
          "cut own.dcvc own.dcvc", "join own.dcvc in.mp4 -o own.dcvc", "mux other.mkv in.mp4 -o other.mkv",
          "mux own.dcvc other.mkv -o other.mkv --overwrite", "compare . -o other.mkv --overwrite",
          "index folder . --index in.mp4 --overwrite")
FOREIGN = ("encode in.mp4 other.mkv", "decode own.dcvc other.mkv", "compare in.mp4 -o other.mkv",
           "eval in.mp4 --model light-m -o own.json", "index in.mp4 --index other.mkv", "report own.json -o other.mkv",
           "report own.json --picture in.mp4", "prepare in.mp4 other.mkv", "import in.mp4 -o other.mkv",
           "train --checkpoint_dir other.mkv", "demo --checkpoint_dir other.mkv", "tune --videos in.mp4 -o other.mkv",
           "mux own.dcvc in.mp4 -o other.mkv", "cut own.dcvc other.mkv", "join own.dcvc own.dcvc -o in.mp4",
           "train-vqgan --videos in.mp4 --checkpoint_dir other.mkv")
NOWHERE = ("encode in.mp4 folder", "encode in.mp4 in.mp4/below/o.dcvc", "decode own.dcvc in.mp4/o.mp4",
           "compare in.mp4 -o folder", "eval in.mp4 --model light-m -o folder", "index in.mp4 --index folder",
           "report own.json -o folder", "cut own.dcvc folder", "join own.dcvc -o in.mp4/o.dcvc",
           "train --checkpoint_dir in.mp4/run", "prepare in.mp4 in.mp4/out")


@pytest.mark.parametrize("line", INPUTS + FOREIGN + NOWHERE)
def test_what_must_stay_stays_and_the_refusal_is_one_line(line, here, capsys):
    before = {path: path.read_bytes() for path in here.iterdir() if path.is_file()}
    assert main(line.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in here.iterdir() if path.is_file()} == before
    assert sorted(path.name for path in here.iterdir() if path.is_dir()) == ["folder"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> list[str]:
    """Options of a small untrained model."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_pretrained(tiny_light_codec(), folder)
    return ["--model", str(folder), "--device", "cpu", "--quiet"]


@pytest.mark.parametrize("name", ["a:b", "pipe:1", "-dash", "%03d", " two  words ", "é" * 115, "x" * 240, "[0-9]*?",
                                  "no-utf8-\udcff\udc80", "line\u2028end", "'q\"$(x)`;&|<>#"])
def test_commands_take_streams_and_videos_of_every_name(name, here, tiny):
    """Of the file, and of the folder around it."""
    folder = os.path.join("in ", name)
    os.makedirs(folder)
    source, stream, muxed, decoded, part = (os.path.join(folder, name + end)
                                            for end in (".mp4", ".dcvc", ".mkv", ".mov", ".cut"))
    shutil.copy("in.mp4", source)
    for line in (["encode", source, stream, *tiny], ["info", stream], ["mux", stream, source, "-o", muxed],
                 ["decode", muxed, decoded, *tiny], ["cut", stream, part, "--frames", "1"],
                 ["join", stream, part, "-o", os.path.join(folder, "joined")],
                 ["decode", os.path.join(folder, "joined"), os.path.join(folder, "pictures"), *tiny],
                 ["eval", source, *tiny, "--max_frames", "1", "-o", os.path.join(folder, "r.json")]):
        assert main(line) == 0, line
    assert len(os.listdir(os.path.join(folder, "pictures"))) == 3


@contextlib.contextmanager
def largest_file(size):
    """As on a disk that is full after so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.y4m", "pictures", "o.dcvc", "lossy.mov"])
def test_a_disk_that_fills_up_midway_is_one_line_and_nothing_is_left(name, here, tiny, monkeypatch, capsys):
    monkeypatch.setattr("dcvc.files.PROBE", 1)                          # there is room at first
    noise = np.random.default_rng(0).integers(0, 256, (4, 128, 192, 3), dtype=np.uint8)
    sample_videos.encode(here / "noise.mkv", "ffv1", noise)
    assert main(["encode", "noise.mkv", "noise.dcvc", *tiny]) == 0
    assert main(["decode", "noise.dcvc", "whole.y4m", *tiny]) == 0          # compiles whatever there is to compile
    lossy = ["--crf", "1"] if name == "lossy.mov" else []
    line = ["encode", "noise.mkv", "full/" + name] if name == "o.dcvc" else ["decode", "noise.dcvc", "full/" + name]
    assert main([*line, *tiny, *lossy]) == 0
    written = [path for path in (here / "full").rglob("*") if path.is_file()]
    half = max(path.stat().st_size for path in written) // 2
    shutil.rmtree(here / "full")
    capsys.readouterr()
    with largest_file(half):
        assert main([*line, *tiny, *lossy]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: full/{name}: cannot be written (File too large)")
    assert error.count("\n") == 1
    assert not [path for path in (here / "full").rglob("*") if path.is_file()]
    assert (here / "full").is_dir()                                     # it was begun


NOWHERE_TO_WRITE = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "DCVC_CACHE")


ONE_FRAME = "compare in.mp4 --anchors x264:40 --max_frames 1 --quiet -o out/r.json"


@pytest.mark.parametrize(("line", "user"), [
    ("encode in.mp4 out/o.dcvc --model light-s --quiet", None), (ONE_FRAME, None), (ONE_FRAME, 4242),
    ("index in.mp4 --verify --quiet --index out/i.dcvcindex", 54321)])
def test_nothing_but_the_output_need_be_writable(line, user, clip):
    """Nobody can write below /proc; and for a user whom the system does not know there is no home at all."""
    if user and os.getuid():
        pytest.skip("only root can be somebody else")
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    if user is None:
        environment |= dict.fromkeys(NOWHERE_TO_WRITE, "/proc/nowhere")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        shutil.copy(clip, place)
        os.mkdir(os.path.join(place, "out"))
        if user:
            os.chown(os.path.join(place, "out"), user, user)
            seen = subprocess.run([sys.executable, "-c", "import dcvc.cli"], cwd=place, env=environment, user=user,
                                  capture_output=True)
            if seen.returncode:
                pytest.skip("that user cannot read this installation")
        done = subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", *line.split()], cwd=place,
                              env=environment | {"OMP_NUM_THREADS": "1"}, user=user, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(place)) == ["in.mp4", "out"]


def test_a_stream_and_a_decoded_video_are_replaced_by_new_ones(here):
    code = ["encode", "in.mp4", "made/a.dcvc", "--model", "light-m", "--quiet", "--max_frames", "1"]
    assert main(code) == main(code) == 0
    for name in ("a.mp4", "a.mkv", "a.y4m"):
        decode = ["decode", "made/a.dcvc", f"new/{name}", "--model", "light-m", "--quiet"]
        assert main(decode) == main(decode) == 0
        assert main([*decode[:2], "other.mkv", *decode[3:], "--overwrite"]) == 0
    with av.open("other.mkv") as video:
        assert sum(1 for _ in video.decode(video=0)) == 1


class Pipe:
    """stdout or stdin that is no terminal."""

    def __init__(self, data=b""):
        self.buffer = BytesIO(data)

    def isatty(self):
        return False

    def write(self, text):
        self.buffer.write(text.encode())

    def flush(self):
        pass


@pytest.mark.parametrize("more", [["--json"], ["--max_frames", "1"]])
def test_a_dash_is_stdout_for_streams_and_stdin_for_decoding(here, monkeypatch, capsys, more):
    plain = ["--model", "light-m", "--quiet", *more]
    assert main(["encode", "in.mp4", "file.dcvc", *plain]) == 0
    capsys.readouterr()
    out = Pipe()
    # For this command alone: undoing all would leave the folder, for every test that follows.
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main(["encode", "in.mp4", "-", *plain]) == 0
    assert "bpp" in capsys.readouterr().err
    assert out.buffer.getvalue() == (here / "file.dcvc").read_bytes()
    monkeypatch.setattr(sys, "stdin", Pipe(out.buffer.getvalue()))
    assert main(["decode", "-", str(here / "pictures"), "--model", "light-m", "--quiet"]) == 0
    assert (here / "pictures" / "im00001.png").is_file()
    assert not (here / "-").exists()


def test_a_terminal_is_no_place_for_a_stream(here, monkeypatch, capsys):
    monkeypatch.setattr(Pipe, "isatty", lambda self: True)
    monkeypatch.setattr(sys, "stdout", Pipe())
    assert main(["encode", "in.mp4", "-", "--model", "light-m", "--quiet"]) == 1
    assert "terminal" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["two\nlines.mp4", "bell\x07", "no-utf8-\udcff.mov", "tab\t.mkv"])
def test_errors_are_one_printable_line_whatever_a_file_is_called(name, capsys):
    def fail():
        raise InputError(f"{name}: found, needed")

    assert run_reporting_errors(fail) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error[:-1].isprintable()
    assert printable("grün × 4 …") == "grün × 4 …"


SLOW_WRITER = """
import sys, time
from dcvc.commands.arguments import run_reporting_errors
from dcvc.files import replaced, replaced_folder
def work():
    with {how}(sys.argv[1]) as partial:
        print("ready", flush=True)
        time.sleep(60)
sys.exit(run_reporting_errors(work))
"""


@pytest.mark.parametrize("how", ["replaced", "replaced_folder"])
def test_sigterm_leaves_nothing_hidden_behind(how, tmp_path):
    code = SLOW_WRITER.format(how=how)
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out.mkv")], stdout=subprocess.PIPE)
    child.stdout.readline()
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 143
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_refuses_anywhere_is_one_line(code, capsys):
    def write():
        raise OSError(code, os.strerror(code), "/somewhere/in a cache")

    assert run_reporting_errors(write) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: /somewhere/in a cache: cannot be written ({os.strerror(code)})")
    assert error.count("\n") == 1


@pytest.mark.parametrize("line", ["index in.mp4 --quiet", "compare in.mp4 --anchors x264:40 --max_frames 1 --quiet"])
def test_a_user_without_a_home_leaves_no_folder_called_tilde(line, here, monkeypatch):
    monkeypatch.setenv("HOME", "~")                                     # what unknown users end up with
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(here / "folder"))
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert main(line.split()) == 0
    assert not (here / "~").exists()


def no_home():
    raise RuntimeError("Could not determine home directory.")
