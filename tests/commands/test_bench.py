"""`dcvc bench`: subcommands with options of their own."""

import json

import pytest

from dcvc.cli import main
from dcvc.commands.bench import BENCHES


@pytest.mark.parametrize("kind", BENCHES)
def test_every_subcommand_has_help(kind, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", kind, "--help"])
    assert stopped.value.code == 0
    assert f"usage: dcvc bench {kind}" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [
    ([], "required: KIND"), (["dat"], "did you mean 'data'"), (["data"], "required: DIR"),
    (["train", "--repeat", "2"], "did you mean '--repeats'"),
    (["coding", "--model_size", "smal"], "did you mean 'small'"),
])
def test_wrong_usage_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert message in line


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["bench", "data", str(tmp_path / "nowhere")]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "nowhere: no such folder or file" in line


def test_coding_with_dashes_prints_its_numbers(capsys):
    assert main(["bench", "coding", "--model-size", "tiny", "--width", "64", "--height", "48", "--frames", "1",
                 "--repeats", "1", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["codec"], numbers["size"], numbers["width"], numbers["frames"]) == ("dcvc2021", "tiny", 64, 1)
    assert numbers["encode_fps"] > 0
