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


def module_name(path: Path) -> str:
    """dcvc/video/reader.py -> dcvc.video.reader; a package's __init__.py -> the package's own name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def room_of(module: str) -> str:
    """A room is a file beside dcvc/cli.py, a folder in dcvc/, or a folder one level below that."""
    parts = module.split(".")[1:]
    inner = MODULES[module].name != "__init__.py"
    folders = parts[:-1] if inner else parts
    return "/".join(folders[:2]) if folders else (parts[0] if parts else "")


def imported_modules(module: str) -> set[str]:
    """The project's own modules that a file imports, wherever the import stands: in functions and under
    TYPE_CHECKING too. `from dcvc.video import reader` counts as dcvc.video.reader."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in MODULES else node.module)
    return {name for name in names if name in MODULES and name != "dcvc"} - {module}


def arrows() -> dict[str, set[str]]:
    """room -> rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if room_of(module):
            graph.setdefault(room_of(module), set()).update(map(room_of, imported_modules(module)))
    return {room: targets - {room} for room, targets in graph.items()}


def reachable(graph: dict[str, set[str]], start: str, without: str = "") -> set[str]:
    """Everything that `start` imports, directly or through others, on ways that do not lead through `without`."""
    seen, waiting = set(), [start]
    while waiting:
        for room in graph.get(waiting.pop(), set()) - seen - {without}:
            seen.add(room)
            waiting.append(room)
    return seen


def floor_of(graph: dict[str, set[str]], room: str) -> int:
    """1 for a room that imports no other, else one more than the highest room it imports."""
    return 1 + max((floor_of(graph, below) for below in graph[room]), default=0)


def test_no_rooms_import_each_other_in_a_circle():
    graph = arrows()
    assert {room for room in graph if room in reachable(graph, room)} == set()


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported_modules(module) for module in MODULES}
    assert {module for module in graph if module in reachable(graph, module)} == set()


def test_the_house_has_few_rooms_and_floors():
    graph = arrows()
    assert len(graph) <= 28, sorted(graph)
    assert max(floor_of(graph, room) for room in graph) <= 11


# Which rooms a room must not reach, not even through others.
SEPARATE = {
    "inter": ("intra", "intra/vqgan", "data", "video", "codec", "training", "evaluation", "checkpoint"),
    "intra": ("inter", "inter/dcvc2021", "data", "video", "codec", "training", "evaluation", "checkpoint"),
    "entropy": ("inter", "intra", "data", "video"),
    "video": ("data", "inter", "intra", "codec", "training", "evaluation"),
    "data": ("inter", "intra", "codec", "training", "evaluation"),
    "schedule": ("inter", "intra", "data", "training"),
    "report": ("inter", "intra", "data", "video", "codec", "training", "evaluation"),
}


@pytest.mark.parametrize("room", SEPARATE)
def test_a_room_reaches_nothing_it_must_not_know(room):
    graph = arrows()
    assert reachable(graph, room) & set(SEPARATE[room]) == set()


def test_codecs_are_known_by_their_registries_only():
    """Apart from the registry (room "inter", room "intra") nobody reaches the folder of one codec."""
    graph = arrows()
    inside = {room for room in graph if room.startswith("inter/")}
    known = {room: reachable(graph, room, without="inter") & inside for room in graph}
    assert {room: found for room, found in known.items() if found and room not in ("inter", *inside)} == {}


def test_nobody_imports_the_commands():
    graph = arrows()
    assert [room for room in graph if "commands" in graph[room] and room != "cli"] == []
    assert [room for room in graph if "cli" in graph[room]] == []


def test_report_and_bitstream_need_no_torch():
    """A page is made, and a stream's frames are listed, on machines without torch."""
    code = ("import sys; sys.modules['torch'] = None\n"
            "import dcvc.report, dcvc.report.results, dcvc.codec.bitstream")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_tests_mirror_the_package():
    """tests/video is about dcvc/video, and so on; helpers/ and docs/ alone have no room in the package."""
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    rooms = {room_of(module) for module in MODULES}
    assert folders - rooms - {".", "docs"} == set()


def test_documents_show_the_folders_that_there_are():
    """The drawing of the house in docs/architecture.md names every room, and no other; the README's tree is a part."""
    rooms = {module.split(".")[1] for module in MODULES if module != "dcvc"}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"^```tree\n(.*?)^```", text, re.S | re.M)[1]
    named = set(re.findall(r"^  (\w+)(?:/|\.py) ", drawing, re.M))
    assert named == rooms
    for readme in ("README.md", "README.zh-CN.md"):
        tree = re.search(r"^```tree\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), re.S | re.M)[1]
        folders = set(re.findall(r"dcvc/(\w+)/", tree))
        assert folders
        assert folders <= rooms


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_files_and_functions_stay_short():
    """No file beyond 400 lines, no function beyond 60, counted with what stands above and in them."""
    long = {}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT).as_posix()
        if len(text.splitlines()) > 400:
            long[name] = len(text.splitlines())
        for function in functions(ast.parse(text)):
            length = function.end_lineno - function.lineno + 1
            if length > 60:
                long[f"{name}:{function.name}"] = length
    assert long == {}


def test_few_lines_are_wide():
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(len(line) > 100 for line in lines) <= 0.03 * len(lines)


@pytest.mark.parametrize("room", ["video", "entropy", "training", "inter", "codec"])
def test_algorithms_are_commented(room):
    """One comment line in ten lines of code. Docstrings and empty lines count as neither."""
    comments = code = 0
    for path in (ROOT / "dcvc" / room).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        documented = [node for node in ast.walk(tree)
                      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)]
        docstrings = {number for node in documented
                      for number in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip().startswith("#"):
                comments += 1
            elif line.strip() and number not in docstrings:
                code += 1
    assert comments >= 0.1 * code, f"{comments} comment lines, {code} lines of code"


def test_coding_loads_nothing_that_draws():
    """Curves are compared and drawn by SciPy and Matplotlib, which take as long to load as torch."""
    code = ("import sys, dcvc.commands.encode, dcvc.commands.decode, dcvc.codec.encoder, dcvc.checkpoint, dcvc.report\n"
            "from dcvc.inter import registry, light\nimport dcvc.inter.light.model, dcvc.intra.light.model\n"
            "sys.exit(bool({'matplotlib', 'scipy.interpolate', 'bjontegaard'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_starting_the_command_line_imports_no_torch():
    code = "import sys, dcvc.cli; dcvc.cli.main(['--version']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_command_has_help_without_loading_torch():
    """Help is there at once: torch alone takes seconds to load."""
    from dcvc.cli import COMMANDS

    for name in COMMANDS:
        code = f"import sys; sys.modules['torch'] = None; import dcvc.cli; dcvc.cli.main(['{name}', '--help'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
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
