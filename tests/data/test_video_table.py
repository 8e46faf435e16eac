"""The index of a data set: kept in its file, made anew where files changed, damage told."""

import shutil

import pytest
import torch

from dcvc.data import VideoGOPDataset, VideoReader
from dcvc.data.video_table import VideoTable, build_table
from dcvc.errors import InputError, ReadError
from dcvc.video.file_index import index_file


def test_index_is_kept_and_renewed(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    index = tmp_path / "set.dcvcindex"
    table = build_table([str(copy)], index=index)
    for i in range(len(table)):
        row, fresh = table.row(i), index_file(table.path(i))
        assert row.pts.tolist() == fresh.pts.tolist()
        assert row.keys.tolist() == fresh.keys.tolist()
        for name in ("path", "time_base", "height", "width", "orientation", "fps", "codec", "pix_fmt", "matrix",
                     "full_range", "counted", "notes", "file_size", "mtime_ns"):
            assert getattr(row, name) == getattr(fresh, name)
    written = index.stat().st_mtime_ns
    build_table([str(copy)], index=index)
    assert index.stat().st_mtime_ns == written
    (copy / "vfr.mp4").unlink()
    shutil.copy(copy / "vp9.webm", copy / "new.webm")
    (copy / "broken.mp4").write_bytes(b"?")
    table = build_table([str(copy)], index=index)
    assert len(table) == 4
    assert table.excluded[0][0].endswith("broken.mp4")
    assert VideoGOPDataset(str(index), 3, None, 32, on_bad_video="skip", max_bad_share=0.5)[0].shape == (3, 3, 32, 32)
    shutil.copy(copy / "h264_open.mp4", copy / "vp9.webm")
    stale = VideoGOPDataset(str(index), 3, None, 32, seed=0, on_bad_video="skip", max_bad_share=0.2)
    with pytest.raises(ReadError, match="as when it was indexed"):
        stale._readers.get(stale.table, [p for p in range(4) if "vp9" in stale.table.path(p)][0]).read(0, 1)
    index.write_bytes(index.read_bytes()[:700])
    with pytest.raises((ReadError, InputError)):
        VideoTable.open(index)
    assert len(build_table([str(copy)], index=index)) == 4


def test_verified_files_skip_by_themselves(two_videos):
    table = build_table([str(two_videos)])
    assert not table.row(0).verified
    table.mark_verified({table.path(1)})
    table = build_table([str(two_videos)])
    assert [table.row(i).verified for i in range(2)] == [True, False]
    row = table.row(0)
    assert VideoReader(row.path, index=row)._verified.whole_file
    assert torch.equal(VideoReader(row.path, index=row).read(20, 7), VideoReader(row.path).read(20, 7))
