"""Speed of reading, training and context coding with the code of two trees, alternating, in one run.

`git worktree add OLD COMMIT && python benchmarks/speed_before_after.py OLD . --clip FILE --out
benchmarks/speed_before_after.json`

Each tree has one process that stays; they take turns, and only one works at a time. CPU time on one thread, medians
and the median of the pairs' ratios. The workers take the names of both trees: those before rooms had folders, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from dcvc.bench.data import versions
from dcvc.files import write_text

WORKER = '''
import sys, time, torch
torch.set_num_threads(1)
what, clip = sys.argv[1], sys.argv[2]
if what == "read":
    from dcvc.data import VideoReader
    reader, turn = VideoReader(clip), 0
    def work():
        global turn
        for k in range(8):
            reader.read((37 * turn + 53 * k) % (len(reader) - 8), 7, (16, 32, 256, 256))
        turn += 1
elif what == "train":
    from accelerate import Accelerator
    try:
        from dcvc.training.dry_run import UncodedFrames
        from dcvc.training.step import prepare_step as prepare
        from dcvc.training.config import TrainConfig
        from dcvc.inter.registry import build_p_frame, codec_entry
        model = lambda: build_p_frame(codec_entry("dcvc2021").size("tiny"))
        stage = codec_entry("dcvc2021").stages[4]
    except ImportError:
        from dcvc.config import MODEL_SIZES, TrainConfig
        from dcvc.estimate import UncodedFrames
        from dcvc.inter import DCVC
        from dcvc.recipes import STAGES
        from dcvc.updates import prepare_updates as prepare
        model = lambda: DCVC(MODEL_SIZES["tiny"])
        stage = STAGES[4]
    torch.manual_seed(0)
    step = prepare(Accelerator(cpu=True), UncodedFrames(), model(), stage, TrainConfig(lambda_value=1024.0))
    run = getattr(step, "run", None) or step.step
    frames = torch.rand(2, 2, 3, 64, 64)
    def work():
        for _ in range(4):
            run([frames])
else:
    try:
        from kit.context_coding import _Latent, _model
    except ImportError:
        from dcvc.bench.coding import _Latent, _model
    from dcvc.inter import DCVC
    config = type(DCVC().config)(32, 48, 48, 32, (16, 32, 16, 8), 32)
    latent = _Latent(_model(config), "y", 256, 384)
    def work():
        latent.encode()
        latent.decode()
work()
print("ready", flush=True)
for _ in sys.stdin:
    begin = time.process_time()
    work()
    print(time.process_time() - begin, flush=True)
'''


def worker(tree: Path, what: str, clip: Path) -> subprocess.Popen:
    paths = os.pathsep.join([str(tree), str(tree / "benchmarks")])
    process = subprocess.Popen([sys.executable, "-c", WORKER, what, str(clip)], stdin=subprocess.PIPE, cwd=tree,
                               stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    assert process.stdout.readline().strip() == "ready"
    return process


def seconds(process: subprocess.Popen) -> float:
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs=2, type=Path, help="the old code and the new")
    parser.add_argument("--clip", type=Path, required=True, help="a video to read")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = {}
    for what in ("read", "train", "context coding"):
        processes = [worker(tree.resolve(), what, options.clip.resolve()) for tree in options.trees]
        pairs = []
        for turn in range(options.rounds):
            # Who begins changes from round to round: what warms up for one warms up for the other.
            order = (0, 1) if turn % 2 else (1, 0)
            times = {side: seconds(processes[side]) for side in order}
            pairs.append((times[0], times[1]))
        for process in processes:
            process.stdin.close()
            process.wait()
        old, new = (statistics.median(side) for side in zip(*pairs, strict=True))
        rows[what] = {"seconds_old": old, "seconds_new": new, "ratio_of_medians": new / old,
                      "median_of_ratios": statistics.median(after / before for before, after in pairs)}
        print(what, rows[what], file=sys.stderr)
    record = {"command": f"python benchmarks/speed_before_after.py OLD . --clip {options.clip.name} --rounds "
                         f"{options.rounds} --out benchmarks/speed_before_after.json",
              "limit": "within 3 %", "cpu_seconds": rows, "versions": versions()}
    print(json.dumps(record, indent=1))
    if options.out:
        write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
