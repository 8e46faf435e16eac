"""What is loaded before anything is done; benchmarks/start_up.py measures how long that takes."""

import subprocess
import sys

import pytest

# Each takes longer to load than all that a --help needs.
HEAVY = {"torch", "numpy", "scipy", "numba", "av", "PIL", "matplotlib", "accelerate", "tqdm", "constriction",
         "safetensors", "fsspec", "pandas", "asyncio"}
EVERY_HELP = """
from dcvc.cli import COMMANDS, main
for name in COMMANDS:
    try:
        main([name, "--help"])
    except SystemExit:
        pass
"""


@pytest.mark.parametrize(("code", "not_loaded"), [
    ("import dcvc", HEAVY | {"argparse", "dataclasses", "pathlib", "dcvc.config"}),
    ("from dcvc.cli import main; main(['--help'])", HEAVY | {"argparse", "dataclasses", "dcvc.config"}),
    (EVERY_HELP, HEAVY)])
def test_nothing_heavy_is_loaded_to_begin_with(code, not_loaded):
    # -S and the path by hand: an editable installation's own finder loads pathlib at every start.
    start = f"import sys; sys.path[:] = {sys.path!r}\n{code}\nsys.stderr.write('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", start], capture_output=True, text=True, check=True)
    assert not_loaded & set(done.stderr.split()) == set()
