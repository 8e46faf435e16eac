"""`dcvc prepare`, stopped, begun again, shared out over processes and machines: always the same bytes."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sample_videos
import torch

from dcvc.data.prepare import prepare
from dcvc.data.prepare_options import PrepareOptions, Shard
from dcvc.data.video_table import build_table
from dcvc.errors import InputError, ReadError

PLAIN = PrepareOptions(segment=8, crf=30)
# Every option that has to see the frames.
LOOKING = PrepareOptions(segment=8, crf=30, split_cuts=True, drop_repeated=True, drop_black=True, min_seconds=0.1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Three small videos; the second holds a cut, black and repeated frames. Tests change copies only."""
    folder = tmp_path_factory.mktemp("sources")
    for number in range(3):
        frames = sample_videos.textures(20, 48, 64, seed=number)
        if number == 1:
            frames = np.concatenate((frames, frames[::-1] // 3, frames[:3] * 0, np.repeat(frames[4:5], 4, 0)))
        sample_videos.encode(folder / f"clip{number}.mp4", "libx264", frames, options={"qp": "0", "preset": "fast"})
    return folder


@pytest.fixture
def copy(sources, tmp_path) -> Path:
    return Path(shutil.copytree(sources, tmp_path / "set"))


def run(folder: Path, out: Path, options: PrepareOptions = PLAIN, **more) -> dict:
    return prepare(build_table([str(folder)]), out, options, **more)


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


class Events:
    """Counts what a run does to the disk; at event number `last` the process is killed."""

    def __init__(self, monkeypatch, last: int | None = None) -> None:
        self.count = 0
        for place, name in ((os, "replace"), (os, "unlink"), (os, "mkdir"), (os, "rmdir"), (os, "open")):
            before = getattr(place, name)

            def counted(*words, before=before, **named):
                self.count += 1
                if self.count == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return before(*words, **named)

            monkeypatch.setattr(place, name, counted)


def killed_at(event: int, monkeypatch, work) -> bool:
    """Run work in a process that is killed at this event; whether it came to that."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        Events(monkeypatch, event)
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("options", [PLAIN, LOOKING], ids=["plain", "looking"])
def test_killed_at_any_moment_the_same_command_comes_to_the_same_bytes(sources, tmp_path, monkeypatch, options):
    table = build_table([str(sources)])
    prepare(table, tmp_path / "first", options)                  # compiles, and fills caches
    with monkeypatch.context() as counting:
        events = Events(counting)
        prepare(table, tmp_path / "whole", options)
    wanted = content(tmp_path / "whole")
    assert content(tmp_path / "first") == wanted
    assert len(wanted) > 5
    # Up to three kills, one after the other, then an undisturbed run; the last events are the moves to the end.
    rng = random.Random(1)
    last = range(events.count - 2 * len(wanted), events.count)
    for number, first in enumerate([*rng.sample(range(1, events.count), 6), *rng.sample(last, 6)]):
        out = tmp_path / f"killed{number}"
        assert killed_at(first, monkeypatch, lambda out=out: prepare(table, out, options))
        for _ in range(rng.randrange(3)):
            killed_at(rng.randrange(1, events.count), monkeypatch, lambda out=out: prepare(table, out, options))
        manifest = prepare(table, out, options)
        assert content(out) == wanted
        assert manifest == json.loads((out / "manifest.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_twenty_kills_of_the_command(sources, tmp_path, processes):
    """The long form: real processes, killed by the clock."""
    words = [sys.executable, "-m", "dcvc.cli", "prepare", str(sources), "--segment", "4", "--crf", "30", "--quiet",
             "--split_cuts", "--drop_repeated", "--processes", processes]
    began = time.monotonic()
    subprocess.run([*words, str(tmp_path / "whole")], check=True)
    took, rng, kills = time.monotonic() - began, random.Random(2), 0
    wanted, out = content(tmp_path / "whole"), tmp_path / "killed"
    while kills < 20:
        running = subprocess.Popen([*words, str(out)])
        try:
            running.wait(rng.uniform(0.3, 1.0) * took)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            kills += 1
        if running.wait() == 0:
            assert content(out) == wanted
            shutil.rmtree(out)
    subprocess.run([*words, str(out)], check=True)
    assert content(out) == wanted


def test_only_what_changed_is_done_again(copy, tmp_path):
    out = tmp_path / "out"
    run(copy, out)
    inodes = {path.name: path.stat().st_ino for path in out.glob("*.mp4")}
    written = (out / "manifest.json").stat().st_mtime_ns
    run(copy, out)
    assert (out / "manifest.json").stat().st_mtime_ns == written
    # One source changes, one is new and moves all numbers, one goes.
    sample_videos.encode(copy / "clip1.mp4", "libx264", sample_videos.textures(12, 48, 64, seed=9))
    shutil.copy(copy / "clip0.mp4", copy / "a_new_one.mp4")
    (copy / "clip2.mp4").unlink()
    (copy / "text.mp4").write_text("no video")
    run(copy, out)
    (copy / "text.mp4").unlink()
    run(copy, out)
    now = {path.name: path.stat().st_ino for path in out.glob("*.mp4")}
    assert {now[f"0000001_clip0_{first:07d}.mp4"] for first in (0, 8, 16)} <= set(inodes.values())
    run(copy, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    # A segment that was lost is made again.
    wanted = content(out)
    (out / "0000001_clip0_0000008.mp4").unlink()
    run(copy, out)
    assert content(out) == wanted


def test_processes_and_shards_come_to_the_same_bytes(sources, tmp_path):
    run(sources, tmp_path / "one", LOOKING)
    wanted = content(tmp_path / "one")
    run(sources, tmp_path / "one process", PLAIN)
    run(sources, tmp_path / "two processes", PLAIN, processes=2)
    assert content(tmp_path / "two processes") == content(tmp_path / "one process")
    shards = tmp_path / "shards"
    for index in (2, 1, 3):
        assert not (shards / "manifest.json").exists()
        run(sources, shards, LOOKING, shard=Shard(index, 3))
    both = content(shards)
    assert {name: both[name] for name in wanted} == wanted
    assert set(both) - set(wanted) == {f"manifest.{index}-of-3.json" for index in (1, 2, 3)}
    run(sources, shards, LOOKING, shard=Shard(2, 3))
    assert content(shards) == both
    with pytest.raises(InputError, match=r"found parts of --shard I/3, needed the same division"):
        run(sources, shards, LOOKING, shard=Shard(1, 2))
    with pytest.raises(InputError, match="prepared without --shard"):
        run(sources, tmp_path / "one", LOOKING, shard=Shard(1, 2))
    for text in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(InputError, match="--shard"):
            Shard.parse(text)


def test_other_settings_other_files_and_a_second_process_are_refused(sources, tmp_path):
    out = tmp_path / "out"
    run(sources, out)
    before = content(out)
    with pytest.raises(InputError, match=r"out: found a set of other settings \(crf: 30 there, 31 now;"):
        run(sources, out, PrepareOptions(segment=8, crf=31))
    assert content(out) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"other: found files in it, needed an empty or new folder"):
        run(sources, tmp_path / "other")
    (tmp_path / "busy" / ".prepare").mkdir(parents=True)
    code = ("import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); print(flush=True); "
            "sys.stdin.read()")
    words = [sys.executable, "-c", code, str(tmp_path / "busy" / ".prepare" / "lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(InputError, match="another `dcvc prepare` is at work"):
            run(sources, tmp_path / "busy")
        holder.stdin.close()


def test_a_damaged_video_ends_it_or_is_left_out(copy, tmp_path):
    data = bytearray((copy / "clip0.mp4").read_bytes())
    data[len(data) // 2: len(data) // 2 + 4000] = bytes(4000)
    (copy / "clip0.mp4").write_bytes(data)
    with pytest.raises(ReadError, match=r"clip0\.mp4.*--skip_bad leaves"):
        run(copy, tmp_path / "out")
    manifest = run(copy, tmp_path / "out", skip_bad=True)
    assert [Path(path).name for path in manifest["excluded"]] == ["clip0.mp4"]
    assert {entry["number"] for entry in manifest["segments"]} == {1, 2}
    assert not list((tmp_path / "out").glob("0000000*"))
