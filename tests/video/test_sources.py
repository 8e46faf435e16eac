"""Videos that lie elsewhere: behind addresses, in tar files; the same frames, or an error that names the place."""

import io
import multiprocessing
import os
import shutil
import sys
import tarfile
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from kit.object_server import serving
from kit.remote_faults import equal_indices, run_trials

from dcvc.data import VideoGOPDataset, VideoValidationDataset
from dcvc.data.eval_sequences import open_sequences
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.data.video_list import list_videos
from dcvc.data.video_table import build_table
from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.video import block_cache, remote_file, remote_stores
from dcvc.video.block_cache import BlockCache
from dcvc.video.coded_video import index_video
from dcvc.video.places import Place, Stamp
from dcvc.video.reader import VideoReader
from dcvc.video.sources import open_file, tar_members

NAMES = ("h264_open.mp4", "vp9.webm", "hevc_open.mp4")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("DCVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_file, "WAITS", (0.0, 0.0))


@pytest.fixture
def here(videos, tmp_path):
    """A folder of videos, one of them a folder deeper."""
    folder = tmp_path / "set"
    (folder / "deeper er").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(videos[name][0], folder / ("deeper er" if name == NAMES[2] else "") / name)
    (folder / "notes.md").write_text("no video")
    (folder / ".hidden.mp4").write_bytes(b"")
    return folder


def as_files(folder: Path, prefix: str = "/set/") -> dict[str, bytes]:
    return {prefix + path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def server(here):
    with serving(files=as_files(here)) as server:
        yield server


def samples(source, **options) -> list[torch.Tensor]:
    data = VideoGOPDataset(source, 3, None, 32, seed=0, samples_per_video=3, **options)
    return [data[i] for i in range(len(data))]


def same_samples(one, other) -> bool:
    one, other = samples(one), samples(other)
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_folder_behind_http_gives_the_samples_of_the_folder(server, here, tmp_path, ranges):
    server.ranges = ranges
    there = f"{server.url}/set/"
    assert [row.path for row in build_table([there]).rows()] == [
        f"{server.url}/set/{name}" for name in ("deeper%20er/hevc_open.mp4", "h264_open.mp4", "vp9.webm")]
    assert same_samples(there, here)
    assert same_samples(there.removesuffix("/"), here)
    # A list of addresses, one behind an address with names relative to it, and an index.
    lines = [f"{server.url}/set/h264_open.mp4", str(here / "vp9.webm"), f"file://{here}/deeper%20er/hevc_open.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    server.files["/set/list.txt"] = b"h264_open.mp4\n# no video\nvp9.webm\ndeeper%20er/hevc_open.mp4\n"
    (tmp_path / "here.txt").write_text("\n".join(str(here / name) for name in (*NAMES[:2], f"deeper er/{NAMES[2]}")))
    for listing in (str(tmp_path / "list.txt"), f"{server.url}/set/list.txt"):
        assert same_samples(listing, tmp_path / "here.txt")
    build_table([there], index=tmp_path / "there.dcvcindex")
    server.files["/there.dcvcindex"] = (tmp_path / "there.dcvcindex").read_bytes()
    asked = len(server.log)
    assert same_samples(f"{server.url}/there.dcvcindex", here)
    # Nothing but the index is asked for: the blocks are here, and the index tells of which state.
    assert {path for _, path, _ in server.log[asked:]} == {"/there.dcvcindex"}


def test_validation_and_evaluation_take_addresses(server, here):
    there, url = f"{server.url}/set/", f"{server.url}/set/vp9.webm"
    assert len(VideoValidationDataset(there)) == 3
    assert torch.equal(VideoValidationDataset(url)[0]["frames"], VideoValidationDataset(here / "vp9.webm")[0]["frames"])
    by_name = {sequence.name: sequence for sequence in open_sequences([there])}
    assert sorted(by_name) == ["h264_open", "hevc_open", "vp9"]
    local = next(iter(open_sequences([here / "deeper er" / "hevc_open.mp4"])))
    assert all(map(torch.equal, by_name["hevc_open"].stream(), local.stream()))
    with pytest.raises(MissingError, match=rf"{server.url}/other.mp4: .*no such file"):
        open_sequences([f"{server.url}/other.mp4"])


def test_what_changed_is_indexed_anew_and_what_did_not_is_not_asked_for(server, here):
    there = f"{server.url}/set/"
    build_table([there])
    asked = len(server.log)
    build_table([there])
    assert {(method, kind) for method, _, kind in server.log[asked:]} <= {("HEAD", None), ("GET", None)}
    old = build_table([there])
    server.files["/set/vp9.webm"] = server.files["/set/h264_open.mp4"]
    rows = {row.path: row for row in build_table([there]).rows()}
    assert equal_indices(rows[there + "vp9.webm"], rows[there + "h264_open.mp4"])
    # Whoever reads by the old index is told, once the blocks of the old state are gone.
    shutil.rmtree(BlockCache.of_environment().folder)
    row = next(row for row in old.rows() if row.path.endswith("vp9.webm"))
    with pytest.raises(ReadError, match=rf"{server.url}/set/vp9.webm: .*another state.*dcvc index"):
        VideoReader(row.path, index=row).read(0, 1)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_tar_files_are_folders(server, here, tmp_path, elsewhere):
    shards = tmp_path / "shards"
    shards.mkdir()
    members = [path for path in sorted(here.rglob("*")) if path.is_file()]
    for number, chosen in enumerate((members[:2], members[2:])):
        with tarfile.open(shards / f"{number:03}.tar", "w") as archive:
            for path in chosen:
                archive.add(path, path.relative_to(here).as_posix())
    server.files |= as_files(shards, "/shards/")
    source = f"{server.url}/shards" if elsewhere else str(shards)
    names = [path.split(".tar/")[1] for path in list_videos(source)]
    assert sorted(names) == sorted(path.relative_to(here).as_posix() for path in map(Path, list_videos(here)))
    listing = tmp_path / "in order.txt"
    listing.write_text("\n".join(str(here / name) for name in names))
    assert same_samples(source, listing)
    assert same_samples(f"{source}/001.tar/{names[-1]}", here / names[-1])
    # By the index, without looking through the tar file.
    table = build_table([source])
    assert all(row.path.offset > 0 and row.path.offset % 512 == 0 for row in table.rows())
    with pytest.raises(MissingError, match=r"000\.tar/no\.mp4: no such file in "):
        VideoReader(f"{source}/000.tar/no.mp4")
    if not elsewhere:
        os.utime(shards / "000.tar", (1, 1))
        with pytest.raises(ReadError, match=r"000\.tar has changed since it was indexed"):
            VideoReader(table.row(0).path, index=table.row(0)).read(0, 1)


def test_tar_files_that_cannot_be_read_are_named(here, tmp_path):
    tar = tmp_path / "whole.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(here / NAMES[0], NAMES[0])
        archive.add(here / NAMES[1], NAMES[1])
    data = tar.read_bytes()
    end = max(place.offset + place.stamp.size for place in tar_members(str(tar)))
    for name, content in (("cut.tar", data[:end - 700]), ("header.tar", data[: tar_members(str(tar))[1].offset - 100]),
                          ("no.tar", b"no tar" * 500)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReadError, match=name):
            list_videos(tmp_path / name)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(here / NAMES[0], NAMES[0])
    with pytest.raises(ReadError, match=r"packed\.tar: .*not compressed"):
        list_videos(tmp_path / "packed.tar")


def test_fsspec_addresses(here, monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="fsspec comes with torch, but a torch may be built without it")
    memory = fsspec.filesystem("memory")
    for path, data in as_files(here, "/bucket/set/").items():
        memory.pipe_file(path, data)
    try:
        assert same_samples("memory://bucket/set", here)
        table = build_table(["memory://bucket/set"])
        assert all(row.path.startswith("memory://") for row in table.rows())
        memory.pipe_file("/bucket/set/vp9.webm", as_files(here)["/set/h264_open.mp4"])
        again = {row.path: len(row) for row in build_table(["memory://bucket/set"]).rows()}
        assert again["memory:///bucket/set/vp9.webm"] == again["memory:///bucket/set/h264_open.mp4"]
        with pytest.raises(MissingError, match="memory://bucket/none"):
            list_videos("memory://bucket/none")
    finally:
        memory.rm("/bucket", recursive=True)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://bucket/videos: found no package for such addresses .*gcsfs"):
        list_videos("gs://bucket/videos")
    with pytest.raises(InputError, match="nowhere://a/b.mp4: found an unknown kind of address"):
        VideoReader("nowhere://a/b.mp4")


def test_faults_are_retried_or_named_and_never_wrong(videos, tmp_path):
    """The short form of benchmarks/remote_faults.json."""
    files = [videos[name][0] for name in NAMES]
    counts = run_trials(files, tmp_path / "faults", 51, seed=1, block=1 << 10)
    outcomes = Counter()
    for (_, outcome), count in counts.items():
        outcomes[outcome] += count
    assert set(outcomes) == {"retried", "error"}
    assert min(outcomes.values()) >= 10


@pytest.mark.parametrize("fault", ["wrong total", "cut", "503", "other etag"])
def test_a_failure_for_good_is_never_the_end_of_the_file(server, fault, monkeypatch):
    """FFmpeg takes a failed read for the file's end, and would count fewer frames."""
    for module in (remote_stores, remote_file):
        monkeypatch.setattr(module, "BLOCK", 1 << 10)
    url = f"{server.url}/set/h264_open.mp4"
    whole = index_video(url)
    for skip in range(1, 6):
        shutil.rmtree(BlockCache.of_environment().folder)
        server.fail(fault, skip)
        with pytest.raises(ReadError, match=rf"{url}: cannot be read, 3 tries"):
            index_video(url)
    # A reader whose read failed reads again, once the server is well.
    with VideoReader(url, index=whole) as reader:
        with pytest.raises(ReadError, match=url):
            reader.read(len(reader) - 2, 2)
        with pytest.raises(ReadError, match=url):
            list(VideoReader(url, index=whole))
        server.fail("", 0, 0)
        assert len(reader.read(len(reader) - 2, 2)) == 2


def test_waiting_for_a_silent_server_ends(server, monkeypatch):
    monkeypatch.setattr(remote_stores, "TIMEOUT", 0.1)
    server.silence = 1.0
    server.fail("stall")
    with pytest.raises(ReadError, match=rf"{server.url}/set/vp9.webm: cannot be read, 3 tries \(timed out\)"):
        index_video(f"{server.url}/set/vp9.webm")
    server.fail("", 0, 0)
    with pytest.raises(MissingError, match=rf"{server.url}/set/no.mp4: the server has no such file"):
        VideoReader(f"{server.url}/set/no.mp4")


def fetch_all(url: str, size: int, folder: str, limit: str, result) -> None:
    os.environ[block_cache.FOLDER], os.environ[block_cache.LIMIT] = folder, limit
    remote_stores.BLOCK = remote_file.BLOCK = 1 << 12
    with open_file(Place(url, Stamp(size))) as file:
        result.put(file.read())


def size_of(path: Path) -> int:
    """0 for a block that was removed a moment ago."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("limit", [1e9, 20_000])
def test_processes_share_the_cache_and_its_limit_holds(tmp_path, limit):
    """Each block is fetched once where there is room for all; where there is not, the bytes are right all the same."""
    data = os.urandom(60_000)
    folder = tmp_path / "blocks"
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with serving(files={"/a.bin": data}, etags=False) as server:
        arguments = (f"{server.url}/a.bin", len(data), str(folder), str(limit / 1e9), results)
        processes = [context.Process(target=fetch_all, args=arguments) for _ in range(4)]
        for process in processes:
            process.start()
        largest, found = 0, []
        while len(found) < 4:
            largest = max(largest, sum(map(size_of, folder.glob("??/*"))))
            if not results.empty():
                found.append(results.get())
        for process in processes:
            process.join()
        asked = [kind for method, _, kind in server.log if method == "GET"]
    assert found == 4 * [data]
    assert largest <= limit
    if limit > len(data):
        assert len(asked) == len(set(asked)) == 15


def test_the_least_recently_used_block_goes_first(tmp_path):
    cache = BlockCache(tmp_path / "blocks", 100)
    names = [cache.name_of(f"http://h/{number}", Stamp(30, 1)) for number in range(4)]
    for age, name in enumerate(names[:3]):
        cache.put(name, 0, bytes([age]) * 30)
        os.utime(cache._path(name, 0), (1000 + age, 1000 + age))
    assert cache.open(names[0], 0, 30).read(0, 2) == b"\0\0"
    cache.put(names[3], 0, b"new" * 10)
    assert cache.open(names[1], 0) is None
    assert [cache.open(name, 0).read(0, 1) for name in (names[0], names[2], names[3])] == [b"\0", b"\2", b"n"]
    # A block that another state of the file, or a machine that lost its power, left behind.
    assert cache.open(names[0], 0, 31) is None
    assert cache.name_of("http://h/0", Stamp(30, 2)) != names[0]


def test_without_a_folder_to_keep_blocks_in_videos_are_read(server, here, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(block_cache.FOLDER, str(tmp_path / "file" / "blocks"))
    with VideoReader(f"{server.url}/set/vp9.webm") as reader, VideoReader(here / "vp9.webm") as local:
        assert torch.equal(reader.read(0, 5), local.read(0, 5))
    assert "is not kept" in caplog.text
    monkeypatch.setenv(block_cache.LIMIT, "many")
    with pytest.raises(InputError, match="DCVC_BLOCK_CACHE_GB: found 'many'"):
        VideoReader(f"{server.url}/set/vp9.webm")


def test_threads_read_files_at_the_same_time(server):
    urls = list_videos(f"{server.url}/set/")
    found: list[int | DcvcError] = []

    def read(url: str) -> None:
        found.append(sum(1 for _ in VideoReader(url)))

    threads = [threading.Thread(target=read, args=(url,)) for url in urls for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(3 * [len(index_video(url)) for url in urls])


def test_a_source_is_a_file_like_any_other(server, here):
    data = (here / NAMES[0]).read_bytes()
    with open_file(f"{server.url}/set/{NAMES[0]}") as file:
        assert file.read() == data
        assert (file.seek(-10, io.SEEK_END), file.read(100), file.read(1)) == (len(data) - 10, data[-10:], b"")
        assert (file.seek(5), file.seek(3, io.SEEK_CUR), file.tell()) == (5, 8, 8)
        buffer = bytearray(4)
        assert (file.readinto(buffer), bytes(buffer)) == (4, data[8:12])


def test_a_bucket_gives_the_samples_of_the_folder(server, here, monkeypatch):
    """By s3fs, from a server on loopback that answers as S3 does: lists, sizes, ranges, ETags. (moto, which imitates
    all of S3, asks for other versions of the packages than s3fs does.)"""
    pytest.importorskip("s3fs", reason="the extra dcvc[remote] is not installed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server.files, server.pages = as_files(here, "/bucket/videos/"), False
    table = build_table(["s3://bucket/videos"])
    assert [row.path for row in table.rows()] == [
        f"s3://bucket/videos/{name}" for name in ("deeper er/hevc_open.mp4", "h264_open.mp4", "vp9.webm")]
    assert same_samples("s3://bucket/videos/", here)
    assert all(kind for method, path, kind in server.log if method == "GET" and path.endswith(".mp4"))
    # Other content of the same length is another file.
    row = table.row(2)
    server.files["/bucket/videos/vp9.webm"] = bytes(row.file_size)
    shutil.rmtree(BlockCache.of_environment().folder)
    with pytest.raises(ReadError, match=r"s3://bucket/videos/vp9\.webm: .*another state of the file"):
        VideoReader(row.path, index=row).read(0, 1)
    with pytest.raises(MissingError, match=r"s3://bucket/none: no such file or folder there"):
        list_videos("s3://bucket/none")


def test_workers_of_a_loader_read_addresses(server, here):
    """Forked processes, each with files of its own and all with one cache."""
    def batches(source) -> list[torch.Tensor]:
        data = VideoGOPDataset(source, 3, None, 32, seed=0, samples_per_video=3)
        shutil.rmtree(BlockCache.of_environment().folder, ignore_errors=True)
        return list(step_loader(data, StepSampler(len(data), 2, 0, last_step=4), 2, False))

    assert all(map(torch.equal, batches(here), batches(f"{server.url}/set/")))
