"""The cores that a process may use: by affinity and by the quotas of its control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dcvc
from dcvc.device import cores
from dcvc.device.cores import THREAD_VARIABLES, usable_cores


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A folder like / with /proc/self/cgroup and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


@pytest.mark.parametrize(("cgroup", "files", "expected"), [
    ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
    ("0::/job\n", {"job/cpu.max": "350000 100000\n"}, 3),
    ("0::/job\n", {"job/cpu.max": "50000 100000\n"}, 1),
    # A group above has the limit.
    ("0::/slice/job\n", {"slice/cpu.max": "200000 100000\n", "slice/job/cpu.max": "max 100000\n"}, 2),
    # In a container the path is that of the machine outside, and the limit lies at the root.
    ("0::/docker/abc\n", {"cpu.max": "400000 100000\n"}, 4),
    ("5:memory:/x\n4:cpu,cpuacct:/docker/abc\n", {
        "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        "memory/x/cpu.max": "100000 100000"}, 2),
    ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
    ("nonsense", {"cpu.max": "what is this"}, 16)])
def test_the_smallest_quota_counts(tmp_path, monkeypatch, cgroup, files, expected):
    monkeypatch.setattr(cores, "_bound_cores", lambda: 16)
    assert usable_cores(system(tmp_path, cgroup, files)) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not bound to cores here")
def test_a_bound_process_counts_its_own_cores():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); from dcvc.device.cores import usable_cores; " \
           "print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"


def test_libraries_are_told_of_a_quota_and_never_against_the_user(monkeypatch):
    monkeypatch.setattr(cores, "_bound_cores", lambda: 16)
    monkeypatch.setattr(cores, "usable_cores", lambda: 16)
    # An environment of the test's own: what the code sets must not outlive it.
    environment = {"GOMP_SPINCOUNT": "100"}
    monkeypatch.setattr(os, "environ", environment)
    cores.tell_libraries()
    assert environment == {"GOMP_SPINCOUNT": "100"}
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    environment["OMP_NUM_THREADS"] = "5"
    cores.tell_libraries()
    assert environment == {"GOMP_SPINCOUNT": "100", "OMP_NUM_THREADS": "5"}
    environment.clear()
    cores.tell_libraries()
    assert environment == {**dict.fromkeys(THREAD_VARIABLES, "2"), "OMP_WAIT_POLICY": "PASSIVE"}


def test_nobody_else_counts_cores():
    package = Path(dcvc.__file__).parent
    counting = {path.name for path in package.rglob("*.py")
                if "cpu_count()" in path.read_text("utf-8").replace("os.cpu_count() counts", "")}
    assert counting == {"cores.py"}
