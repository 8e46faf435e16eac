"""What `dcvc completion` prints completes in the shell that it is for."""

import shutil
import subprocess

import pytest

from dcvc.cli import main

# What the shells' own functions would be told of the words so far, and how the answers are printed.
ASK = {
    "bash": 'COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _dcvc; printf "%s\\n" "${{COMPREPLY[@]}}"',
    # compadd and _files speak only inside zsh's editor: here they print what they are asked for.
    "zsh": 'compadd() {{ shift; print -l -- "$@" }}; _files() {{ print -l -- *(N) }}; '
           'words=({words}); CURRENT=$#words; _dcvc'}
SHELLS = [pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed"))
          for shell in ASK]


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_words_and_files_are_completed(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    (tmp_path / "in.mp4").touch()
    (tmp_path / "script").write_text(
        ("compdef() { }\n" if shell == "zsh" else "") + capsys.readouterr().out)

    def answers(words: str) -> set[str]:
        asked = f". {tmp_path}/script; {ASK[shell].format(words=words)}"
        done = subprocess.run([shell, "-c", asked], capture_output=True, text=True, cwd=tmp_path, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    assert {"train", "train-vqgan"} <= answers('dcvc "tr"')
    assert {"--small_videos", "--stage"} <= answers('dcvc train "--s"')
    assert answers('dcvc train --small_videos ""') == {"error", "skip", "enlarge"}
    assert answers('dcvc bench ""') == {"data", "index", "coding", "train"}
    assert answers('dcvc train --model_size ""') == {"full", "small", "tiny", "m", "s", "l", "uf-ld"}
    assert "in.mp4" in answers('dcvc encode ""')
