"""Which files make a data set: links, lists in any encoding, and names of every kind, in every command."""

import codecs
import os
import shutil

import pytest
import sample_videos
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dcvc.cli import main
from dcvc.data.eval_sequences import open_sequences
from dcvc.data.video_list import VIDEO_EXTENSIONS, list_videos, passed_over
from dcvc.data.video_table import build_table
from dcvc.errors import DcvcError, InputError, MissingError
from dcvc.evaluation.sequence_recorder import safe_name
from dcvc.video.folders import walk_folders
from dcvc.video.reader import VideoReader


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    return sample_videos.encode(path, "libx264", sample_videos.textures(2, 32, 48))


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_links_are_followed_and_each_real_folder_is_visited_once(tmp_path):
    real, disk = touch(tmp_path / "set" / "b" / "x.mp4"), touch(tmp_path / "disk" / "deep" / "y.mkv")
    (tmp_path / "set" / "a").symlink_to("b")                          # sorts before the folder that it shows
    (tmp_path / "set" / "b" / "loop").symlink_to("..")
    (tmp_path / "set" / "self").symlink_to("self")
    (tmp_path / "set" / "disk").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "disk" / "twice").symlink_to("deep")
    assert list_videos(tmp_path / "set") == [str(real), str(tmp_path / "set" / "disk" / "deep" / "y.mkv")]
    assert str(tmp_path / "set" / "a" / "x.mp4") in list_videos(tmp_path / "set" / "a")
    assert [folder.path for folder in walk_folders(disk.parent)] == [str(disk.parent)]
    (tmp_path / "set" / "folder.mp4").mkdir()                          # reported as unreadable rather than searched
    assert str(tmp_path / "set" / "folder.mp4") in list_videos(tmp_path / "set")


@pytest.mark.parametrize("suffix", [".h265", ".OBU", ".m2v", ".vob", ".rmvb", ".3g2"])
def test_formats_that_the_reader_opens_are_found_and_others_are_counted(suffix, tmp_path):
    found = touch(tmp_path / f"a{suffix}")
    for name in ("b.gif", "c.gif", "d.srt", "e", ".hidden.gif"):
        touch(tmp_path / "in" / name)
    assert list_videos(tmp_path) == [str(found)]
    assert passed_over(tmp_path) == {".gif": 2, ".srt": 1, "": 1}
    assert passed_over(found) == {}


def test_index_tells_what_it_passed_over(tmp_path, clip, capsys):
    shutil.copy(clip, tmp_path / "a.mp4")
    for name in ("b.heic", "c.heic", "poster.jpg"):
        touch(tmp_path / name)
    assert main(["index", str(tmp_path), "--quiet", "--index", str(tmp_path / "i.dcvcindex")]) == 0
    assert "passed over, no videos by their names: 2 .heic, 1 .jpg" in capsys.readouterr().out


@pytest.mark.parametrize("lines", ["a.mp4\nsub/b.mp4\n", "\ufeffa.mp4\r\n\r\nsub/b.mp4", "# a\n  a.mp4  \r sub/b.mp4"])
def test_lists_are_read_with_a_mark_or_without(lines, tmp_path):
    paths = [touch(tmp_path / "a.mp4"), touch(tmp_path / "sub" / "b.mp4")]
    for name in ("list.txt", "LIST.TXT"):
        (tmp_path / name).write_bytes(lines.encode())
        assert list_videos(tmp_path / name) == [str(path) for path in paths]


@pytest.mark.parametrize(("encoding", "said"), [("utf-16", "UTF-16"), ("utf-16-be", ".* in line 2"),
                                                ("utf-32", "UTF-16"), ("latin-1", "byte 0xe9 in line 2"),
                                                ("cp1252", "byte 0x97 in line 1")])
def test_lists_in_other_encodings_are_refused_in_one_line(encoding, said, tmp_path):
    text = "caf\u2014.mp4\n" if encoding == "cp1252" else "a.mp4\ncafé.mp4\n"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=rf"list\.txt: found {said}, needed a list in UTF-8"):
        list_videos(tmp_path / "list.txt")
    assert main(["index", str(tmp_path / "list.txt"), "--quiet"]) == 1


def test_a_list_names_what_is_missing(tmp_path):
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(MissingError, match=r"gone\.mp4: no such file, listed in"):
        list_videos(tmp_path / "list.txt")


NAMES = ["a:b.mp4", "http:x.mkv", "pipe:.mp4", "%03d.mp4", " lead and trail .mp4", "#1.mp4", "new\u2028line.mp4",
         "é" * 120 + ".mp4", "x" * 251 + ".mp4", "no-utf8-\udcff\udc80.mp4", "'q\"$(x)`;&|<>.mp4", "[0-9]*?.mp4",
         "quer\x0bü.mp4", "CON.mp4", "十.mp4"]


def test_every_name_works_wherever_a_file_is_given(tmp_path, clip, monkeypatch, capsys):
    monkeypatch.setenv("DCVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    os.mkdir("in")
    for name in NAMES:
        shutil.copy(clip, os.path.join("in", name))
    assert sorted(map(os.path.basename, list_videos("in"))) == sorted(NAMES)
    table = build_table(["in"])
    assert (len(table), table.excluded) == (len(NAMES), [])
    assert [os.path.basename(row.path) for row in build_table(["in"]).rows()] == sorted(NAMES)
    for name in NAMES:
        assert len(VideoReader(os.path.join("in", name)).read(0, 2)) == 2
    os.chdir("in")
    assert len(VideoReader("a:b.mp4")) == 2
    os.chdir("..")
    sequences = open_sequences("in")
    assert len({sequence.name for sequence in sequences}) == len(NAMES)
    assert main(["index", "in", "--json", "--quiet"]) == 0
    measure = ["compare", "in", "--anchors", "x264:40", "--no_cache", "--max_frames", "1", "--quiet"]
    assert main([*measure, "-o", "r.json"]) == 0
    assert main(["report", "r.json", "-o", "page:1.html"]) == 0
    assert main(["prepare", "in", "out", "--quiet"]) == 0
    assert len(list_videos("out")) == len(NAMES)
    with open("list.txt", "w", encoding="utf-8") as file:
        names = [name for name in NAMES if name.isascii() or "\udcff" not in name]
        file.write("\n".join(f"in/{name}" for name in names))
    assert len(list_videos("list.txt")) == len(NAMES) - 1
    assert main(["index", "in/no-utf8-\udcff.mp4"]) == 1
    assert "in/no-utf8-\\udcff.mp4: no such" in capsys.readouterr().err


TEXT = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60)
BYTES = st.binary(min_size=1, max_size=60).filter(lambda b: b"/" not in b and b"\0" not in b)
NAME = TEXT | BYTES.map(os.fsdecode)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folder=NAME, name=NAME, other=NAME, encoding=ENCODINGS)
def test_drawn_names_of_files_and_folders_are_listed_and_read(folder, name, other, encoding, tmp_path_factory, clip):
    # A folder that is called like a video is taken for one.
    assume(not f"_{folder}".lower().endswith(VIDEO_EXTENSIONS))
    top = tmp_path_factory.mktemp("drawn")
    inner = top / f"_{folder}"
    inner.mkdir()
    shutil.copy(clip, inner / f"_{name}.mp4")
    shutil.copy(clip, inner / f"_{other}.MKV")
    found = list_videos(top)
    assert len(found) == 1 + (f"_{name}.mp4" != f"_{other}.MKV")
    assert all(len(VideoReader(path)) == 2 for path in found)
    names = [sequence.name for sequence in open_sequences([top])]
    assert len(set(names)) == len(found)
    assert len({safe_name(one).lower() for one in names}) == len(found)
    assert all(len(os.fsencode(safe_name(one))) < 120 for one in names)
    listing, text = top / "list.txt", "\n".join(found)
    if {"\n", "\r"} & set(folder + name + other):
        return                                                         # lists have no word for these
    try:
        listing.write_bytes(text.encode(encoding))
    except UnicodeEncodeError:
        return
    try:
        assert list_videos(listing) == found
    except DcvcError:
        assert not encoding.startswith("utf-8")


@pytest.mark.parametrize(("one", "two"), [("clip 1", "clip_1"), ("A", "a"), ("x/y", "x_y"), ("n" * 300, "n" * 301),
                                          ("é" * 90, "é" * 91), ("\udcff", "_")])
def test_names_that_meet_when_cleaned_get_files_of_their_own(one, two):
    assert safe_name(one).lower() != safe_name(two).lower()
    assert all(c.isalnum() or c in "-_." for c in safe_name(one))
    assert codecs.encode(safe_name(one), "utf-8")
