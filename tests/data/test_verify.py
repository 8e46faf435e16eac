"""`dcvc index`: what it counts, and which files a full decode finds damaged."""

import json

from dcvc.cli import main


def test_index_command(videos, tmp_path, capsys):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(videos["h264_open.mp4"][0].read_bytes())
    arguments = ["index", str(folder), "--json", "--quiet", "--verify"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["frames"], found["damaged"]) == (1, 48, {})
    spoiled = bytearray((folder / "good.mp4").read_bytes())
    spoiled[3000:6000] = bytes(3000)
    (folder / "spoiled.mp4").write_bytes(spoiled)
    (folder / "text.mp4").write_text("nothing")
    assert main(arguments) == 1
    found = json.loads(capsys.readouterr().out)
    assert [name.rsplit("/", 1)[-1] for name in found["excluded"]] == ["text.mp4"]
    assert [name.rsplit("/", 1)[-1] for name in found["damaged"]] == ["spoiled.mp4"]
