"""`accelerate launch --num_processes N` on a machine without GPUs.

There Accelerate starts a single process whatever N is (it leaves several CPU processes to MPI). One
process where the user asked for two would train on half the batch without a word, so the missing
ones are started with torchrun.
"""

import os
import subprocess
import sys

from dcvc.errors import InputError


def asked_processes(parent_command: list[str]) -> int | None:
    """N of `accelerate launch --num_processes N` in a command line, None when it is not there."""
    for i, word in enumerate(parent_command):
        name, equals, value = word.partition("=")
        if name in ("--num_processes", "--num-processes"):
            if not equals:                                   # the number is the next word, if any
                value = "".join(parent_command[i + 1:i + 2])
            return int(value) if value.isdigit() else None
    return None


def relaunch_if_alone(script: str, arguments: list[str]) -> int | None:
    """Exit code of the N processes, or None when this process is already one of them (or the only
    one wanted)."""
    # Accelerate's launcher sets the first. It sets an address where several processes shall meet,
    # and torchrun alone also says which of them this is.
    started_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    wants_several = ("MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
                     and "RANK" not in os.environ)
    if not (started_by_accelerate and wants_several):
        return None
    import psutil  # comes with Accelerate; the other ways to start do without

    # Accelerate tells its child nothing of N, so its own command line is asked.
    count = asked_processes(psutil.Process(os.getppid()).cmdline())
    if count is None:
        raise InputError(
            "accelerate launch: several CPU processes were asked for but one was started; "
            f"use: torchrun --nproc_per_node N {os.path.basename(script)} …")
    if count < 2:
        return None
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", str(count), script]
    # torchrun --standalone finds a free port by itself; these would lead its processes elsewhere.
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("MASTER_ADDR", "MASTER_PORT")}
    environment["ACCELERATE_USE_CPU"] = "true"
    print(f"accelerate started one CPU process for {count}; starting {count} with torchrun",
          file=sys.stderr)
    return subprocess.run(command + arguments, env=environment).returncode
