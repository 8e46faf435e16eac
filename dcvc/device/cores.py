"""How many cores this process may use, and libraries that are told so before they are loaded.

os.cpu_count() counts those of the machine. On a shared server a process may be bound to some of them
(affinity: taskset, SLURM), or get so many milliseconds of CPU in every tenth of a second (a quota of
its control group: docker --cpus, Kubernetes). With more threads than that, each of torch's short
operations waits at its end for a thread that is not running.

How a thread waits counts as well. OpenMP's, which torch computes with, look again and again whether the
others are done, for milliseconds ("spinning"). Alone on a machine that saves a few microseconds. Beside
another program it holds a core that the thread waited for could run on: on two cores with one busy
loop, a training step took 27 times as long as on the quiet machine, and twice as long with threads that
sleep while they wait (benchmarks/busy_machine.json).
"""

import os
from collections.abc import Iterator
from pathlib import Path

# How many threads the libraries begin with; each reads its own once, when it is loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# How they wait: the standard's name, then those of GNU's and LLVM's own libraries.
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def usable_cores(root: Path = Path("/")) -> int:
    """At least 1; the whole cores of a quota of 1.5 are 1. root: where /proc and /sys lie."""
    quotas = [quota for quota in _quotas(root) if quota is not None]
    return max(1, int(min([_bound_cores(), *quotas])))


def tell_libraries() -> None:
    """Set how threads wait, and their numbers where a quota is smaller than what the libraries would
    count by themselves; neither where the user has. Only before torch and Numba are loaded does it tell
    them."""
    if not any(name in os.environ for name in WAITING_VARIABLES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    cores = usable_cores()
    # All or none: with OMP_NUM_THREADS=1 and MKL_NUM_THREADS=2, oneDNN's convolutions waited in their
    # gradients for a second thread that never came.
    if cores < _bound_cores() and not any(name in os.environ for name in THREAD_VARIABLES):
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(cores)))


def _bound_cores() -> int:
    # Not on macOS, which binds no processes.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float | None]:
    """Cores by the quota of each control group that holds this process: its own, and those above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        # 0::/user.slice/job of version 2; 4:cpu,cpuacct:/docker/abc of version 1.
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A container sees its own group as the root, whatever path the machine calls it by.
        mounts = [root / "sys/fs/cgroup"] if not controllers else [
            root / "sys/fs/cgroup" / name for name in (controllers, "cpu")]
        for mount in mounts:
            group = mount / path.strip("/")
            for folder in (group, *group.parents):
                if not folder.is_relative_to(mount):
                    break
                yield _quota_of(folder)


def _quota_of(group: Path) -> float | None:
    """None where the group has no limit of its own, or cannot be read."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        # "max" in version 2, -1 in version 1: as much as there is.
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
