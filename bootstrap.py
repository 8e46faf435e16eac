"""Make the project's virtual environment: `python bootstrap.py` (standard library only, Python >= 3.11).

Creates `.venv` with the versions pinned in constraints.txt and the command `.venv/bin/dcvc`. A second run does
nothing until pyproject.toml or constraints.txt change. If the Python that runs this file already has torch
(a CUDA build, say), the environment sees that torch and keeps it: it is neither replaced nor downloaded again.
"""

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "dcvc-setup.sha256"
COMPRESSAI = "compressai==1.2.8"


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def fingerprint(own_torch: bool) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {own_torch} {ROOT}".encode())
    for name in ("pyproject.toml", "constraints.txt", "bootstrap.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def pip(*arguments: str) -> None:
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "install", "-q", *arguments]
    print("+ pip install " + " ".join(arguments), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


def installed_constraints(own_torch: bool) -> Path:
    """The pins to install by; a torch that the user already has is not pinned."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    if own_torch:
        lines = [line for line in lines if not line.startswith(("torch==", "numpy=="))]
    path = VENV / "constraints.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="install again even if nothing changed")
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python may well run this file
        print(f"bootstrap: Python {sys.version.split()[0]} found, 3.11 or newer needed", file=sys.stderr)
        return 1
    own_torch = has_torch()
    wanted = fingerprint(own_torch)
    if not options.force and STAMP.exists() and STAMP.read_text() == wanted and venv_python().exists():
        return 0
    try:
        venv.EnvBuilder(with_pip=True, system_site_packages=own_torch, clear=VENV.exists()).create(VENV)
        constraints = str(installed_constraints(own_torch))
        pip("-c", constraints, "-e", ".[dev,zoo,remote]")
        # CompressAI's declared requirements would replace torch and numpy: only the package itself.
        try:
            pip("--no-deps", COMPRESSAI)
        except subprocess.CalledProcessError:
            print("bootstrap: no CompressAI for this platform; all but its zoo works without it", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        hint = "see pip's message above" if "pip" in error.cmd else "is python3-venv installed?"
        print(f"bootstrap: a step failed ({hint}); nothing else was changed, run it again", file=sys.stderr)
        return 1
    STAMP.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
