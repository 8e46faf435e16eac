"""The commands of docs/sound.md run as they stand there, and the layout that it tells is that of the file."""

import re
import shlex
from pathlib import Path

from talks import packets

from dcvc.cli import main
from dcvc.codec.stream_parts import cut_stream
from dcvc.data import VideoReader

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sound.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.S | re.M) for line in block.splitlines()]


def test_the_commands_of_the_page_run(desk):
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        program, name, *words = shlex.split(command)
        assert program == "dcvc"
        assert main([name, *words, *(["--device", "cpu", "--quiet"] if name in ("encode", "decode") else [])]) == 0
    assert len(VideoReader("final.mp4")) == 25
    assert len(VideoReader("part.mp4")) == 10
    assert [data for _, data in packets("final.mp4", "audio")] == [data for _, data in packets("in.mp4", "audio")]
    # The track as the page tells it, read without the code that wrote it.
    with open("out.dcvc", "rb") as file:
        parts = cut_stream(file, "out.dcvc")
        header, records = parts.header.to_bytes(), [record for record, *_ in parts]
    data = Path("out.mkv").read_bytes()
    assert b"V_MS/VFW/FOURCC" in data
    private = data.index(header) - 40
    assert data[private: private + 4] == (40 + len(header)).to_bytes(4, "little")
    assert data[private + 16: private + 20] == b"DCVC"
    blocks = [block for _, block in packets("out.mkv", "video")]
    assert blocks == [*records[:24], records[24] + records[25]]
