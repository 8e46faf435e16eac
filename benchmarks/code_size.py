"""How large and how commented the package is, with the code of one tree or several.

`git worktree add OLD COMMIT && python benchmarks/code_size.py OLD . --out benchmarks/code_size.json`

Lines alone say little where lines become narrower: a call of 120 columns that is broken at 100 counts twice. So the
code is also counted without its layout: statements, and nodes of the syntax tree (every name, number and operator).
"""

import argparse
import ast
import json
import subprocess
from pathlib import Path

from dcvc.files import write_text

COUNTED = ("files", "lines", "code", "comments", "docstrings", "blank", "wide", "statements", "nodes")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def measure(folder: Path) -> dict[str, int | float]:
    """Sums over the Python files below `folder`."""
    sums = dict.fromkeys(COUNTED, 0)
    longest_function = longest_file = 0
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines, tree = text.splitlines(), ast.parse(text)
        described = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED) and ast.get_docstring(node)]
        in_docstring = {number for node in described
                        for number in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
        sums["files"] += 1
        sums["lines"] += len(lines)
        for number, line in enumerate(lines, 1):
            kind = ("comments" if line.strip().startswith("#") else "docstrings" if number in in_docstring
                    else "code" if line.strip() else "blank")
            sums[kind] += 1
            sums["wide"] += len(line) > 100
        nodes = list(ast.walk(tree))
        sums["nodes"] += len(nodes)
        sums["statements"] += sum(isinstance(node, ast.stmt) for node in nodes) - len(described)
        longest_file = max(longest_file, len(lines))
        longest_function = max([longest_function, *(node.end_lineno - node.lineno + 1 for node in nodes
                                                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))])
    return {**sums, "wide_share": round(sums["wide"] / sums["lines"], 4),
            "comments_per_code_line": round(sums["comments"] / sums["code"], 4),
            "longest_function": longest_function, "longest_file": longest_file}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path, help="folders of checked-out code")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for tree in options.trees:
        commit = subprocess.run(["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True,
                                text=True)
        package = tree / "dcvc"
        rooms = {path.name: measure(path) for path in sorted(package.iterdir()) if any(path.rglob("*.py"))}
        rows.append({"commit": commit.stdout.strip(), "package": measure(package), "rooms": rooms})
    record = {"command": "python benchmarks/code_size.py OLD . --out benchmarks/code_size.json", "trees": rows}
    print(json.dumps([row["package"] for row in rows], indent=1))
    if options.out:
        write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
