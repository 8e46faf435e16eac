"""The rooms import one way, and every room keeps its manners."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "dcvc").rglob("*.py"))
OUTER = ("dcvc.commands", "dcvc.cli")
GROUND = {"config", "errors", "frame", "recipes", "layers", "entropy", "metrics", "bitstream", "colour", "files",
          "varint"}
# What a room must not import, wherever the import stands.
FORBIDDEN = {
    "dcvc/intra": ("dcvc.inter", "dcvc.train", "dcvc.codec", "dcvc.evaluate"),
    "dcvc/inter": ("dcvc.intra", "dcvc.data", "dcvc.train", "dcvc.codec", "dcvc.evaluate", "dcvc.checkpoint"),
    "dcvc/data": ("dcvc.inter", "dcvc.intra", "dcvc.train", "dcvc.codec", "dcvc.evaluate"),
    "dcvc/report": ("torch", "dcvc.train", "dcvc.inter", "dcvc.intra", "dcvc.data", "dcvc.codec"),
    "dcvc/bitstream.py": ("torch", "dcvc.inter", "dcvc.intra", "dcvc.data"),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    relative = path.relative_to(ROOT).as_posix()
    names = imports(path)
    if not relative.startswith(("dcvc/commands/", "dcvc/cli.py")):
        assert not [name for name in names if within(name, OUTER)]
    for room, forbidden in FORBIDDEN.items():
        if relative.startswith(room):
            assert not [name for name in names if within(name, forbidden)]
    room = relative.split("/")[1].removesuffix(".py")
    if room in GROUND:
        above = {name for name in names if name.startswith("dcvc.") and name.split(".")[1] not in GROUND}
        assert not above


def test_no_file_outgrows_its_noun():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in lengths.items() if n > 420} == {}


def test_starting_the_command_line_imports_no_torch():
    code = "import sys, dcvc.cli; dcvc.cli.main(['--version']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_command_has_help():
    from dcvc.cli import COMMANDS

    for name in COMMANDS:
        done = subprocess.run([sys.executable, "-m", "dcvc.cli", name, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"dcvc {name}" in done.stdout


def test_misspelt_commands_are_wrong_usage():
    done = subprocess.run([sys.executable, "-m", "dcvc.cli", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean 'train'" in done.stderr


def command_blocks(text: str) -> list[str]:
    """The README's unnamed code blocks."""
    return [block for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M) if not language]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_readme_commands_name_flags_and_files_that_exist(readme):
    """Every line of the README's command blocks parses: scripts exist, flags are known to the command they follow."""
    from dcvc.cli import COMMANDS

    text = (ROOT / readme).read_text(encoding="utf-8")
    lines = [line for block in command_blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line.startswith((".venv/", "python3 ", "dcvc "))]
    assert len(commands) >= 5
    help_of: dict[str, str] = {}
    for command in commands:
        words = [word for word in command.split() if word != "…"]
        if "train_dcvc.py" in words:
            key, invoke = "train_dcvc.py", [sys.executable, "train_dcvc.py", "--help"]
            flags = words[words.index("train_dcvc.py"):]
        elif words[0].endswith("dcvc"):
            assert words[1] in COMMANDS
            key, invoke = words[1], [sys.executable, "-m", "dcvc.cli", words[1], "--help"]
            flags = words[2:]
        else:
            assert (ROOT / words[1]).exists(), command
            continue
        if key not in help_of:
            help_of[key] = subprocess.run(invoke, cwd=ROOT, capture_output=True, text=True, check=True,
                                          env={**os.environ, "COLUMNS": "300"}).stdout
        for flag in (word for word in flags if word.startswith("--")):
            assert re.search(rf"{re.escape(flag)}\b", help_of[key]), f"{flag} in: {command}"


def test_both_readmes_hold_the_same_commands():
    blocks = []
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        blocks.append([b for b in command_blocks(text) if b.startswith((".venv", "python3", "pip"))])
    assert blocks[0] == blocks[1]
