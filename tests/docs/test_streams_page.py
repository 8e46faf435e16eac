"""The commands and the program of docs/streams.md run as they stand there."""

import re
import shlex
from pathlib import Path

from dcvc.cli import main
from dcvc.data import VideoReader

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.S | re.M) for line in block.splitlines()]
PROGRAM = re.search(r"^```python\n(.*?)^```", PAGE, re.S | re.M)[1]


def test_the_commands_and_the_program_of_the_page_run(desk, capsys):
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        program, name, *words = shlex.split(command)
        assert program == "dcvc"
        quiet = ["--device", "cpu", "--quiet"] if name in ("encode", "decode") else []
        # What an untrained model reaches is not what a page speaks of.
        asked = name == "encode" and not {"--quality", "--psnr"} & set(words)
        code, error = main([name, *words, *quiet]), capsys.readouterr().err
        assert code == 0 or asked and "cannot be reached, this clip" in error, error
    assert len(VideoReader("part.mkv")) == 10
    assert main(["decode", "joined.dcvc", "joined.mkv", "--device", "cpu", "--quiet"]) == 0
    assert len(VideoReader("joined.mkv")) == 6 + 25
    names = {}
    exec(PROGRAM, names)
    assert names["shown"] == 25
