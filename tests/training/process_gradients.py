"""One of several processes: the gradients of one step of every stage, without noise, and an evaluation.

    torchrun --nproc_per_node N tests/training/process_gradients.py OUT BATCH FLAGS…
"""

import gc
import sys
from pathlib import Path

import torch

from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.interfaces import FrameOutput
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.step import as_clip
from dcvc.training.validation import Validation


class Quiet:
    def __getattr__(self, _):
        return lambda *a, **k: None


def main() -> None:
    measure(*sys.argv[1:3], sys.argv[3:])
    # As `dcvc train` ends: no model that talks to other processes outlives the group of them. Where one did, a
    # process was once aborted while it ended.
    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def measure(out: str, size: str, flags: list[str]) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    result = {}
    for number in ("1", "2", "3", "4"):
        stage = prepare_stage(job_from(parser.parse_args([*flags, "--stage", number, "--batch_size", size])))
        keys = stage.sampler.step_keys(0)
        clips = [as_clip(torch.stack([stage.dataset.sample(*key) for key in batch]), stage.accelerator.device)
                 for batch in keys]
        stage.step.p_frame.eval()                            # no noise: it differs between processes
        stage.step.intra.forward = lambda x, _=None: FrameOutput(torch.nn.functional.avg_pool2d(x, 3, 1, 1), {})
        gradients = {}

        def keep(step=stage.step, gradients=gradients):
            gradients.update({name: p.grad.clone() for name, p in step.p_frame.named_parameters()
                              if p.grad is not None})

        stage.step.optimizer.step = keep
        stage.step.run(clips)
        result[number] = gradients
    validation = Validation(stage.accelerator, stage.step.intra, stage.sequences, stage.job.stage, stage.job.train)
    evaluation = validation.run(stage.step.p_frame, 0, Quiet())
    if stage.accelerator.is_main_process:
        torch.save({"gradients": result, "evaluation": repr(evaluation),
                    "processes": stage.accelerator.num_processes}, Path(out))
    stage.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main()
