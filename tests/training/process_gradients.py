"""One of several processes: the gradients of one step of every stage, without noise, and an evaluation.

    torchrun --nproc_per_node N tests/train/process_gradients.py OUT BATCH FLAGS…
"""

import sys
from pathlib import Path

import torch

from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.interfaces import FrameOutput
from dcvc.training.step import as_clip
from dcvc.training.trainer import Trainer
from dcvc.training.validation import Validation


class Quiet:
    def __getattr__(self, _):
        return lambda *a, **k: None


def main() -> None:
    out, size, flags = sys.argv[1], sys.argv[2], sys.argv[3:]
    parser = ArgumentParser()
    add_arguments(parser)
    result = {}
    for number in ("1", "2", "3", "4"):
        trainer = Trainer(job_from(parser.parse_args([*flags, "--stage", number, "--batch_size", size])))
        keys = trainer.sampler.step_keys(0)
        clips = [as_clip(torch.stack([trainer.dataset.sample(*key) for key in batch]), trainer.device) for batch
                 in keys]
        trainer.p_frame.eval()                               # no noise: it differs between processes
        trainer.intra.forward = lambda x: FrameOutput(torch.nn.functional.avg_pool2d(x, 3, 1, 1), {})
        gradients = {}

        def keep(trainer=trainer, gradients=gradients):
            gradients.update({name: p.grad.clone() for name, p in trainer.p_frame.named_parameters()
                              if p.grad is not None})

        trainer.optimizer.step = keep
        trainer.updates.step(clips)
        result[number] = gradients
    validation = Validation(trainer.accelerator, trainer.intra, trainer.sequences, trainer.stage, trainer.config)
    evaluation = validation.run(trainer.p_frame, 0, Quiet())
    if trainer.accelerator.is_main_process:
        torch.save({"gradients": result, "evaluation": repr(evaluation),
                    "processes": trainer.accelerator.num_processes}, Path(out))
    trainer.accelerator.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
