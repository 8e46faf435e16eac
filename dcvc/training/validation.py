"""Judging a stage while it trains: the weights that would be shipped, on whole sequences."""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from dcvc.evaluation.estimated import evaluate, results_table
from dcvc.interfaces import FrameCodec, FrameOutput
from dcvc.schedule import Stage
from dcvc.training.config import TrainConfig
from dcvc.training.losses import stage_objective
from dcvc.training.perception import Perception
from dcvc.training.run_log import RunLog


class FirstSequences:
    """The first `count` of some sequences."""

    def __init__(self, sequences: Any, count: int) -> None:
        self.sequences = sequences
        self.name = sequences.name
        self.stream = sequences.stream
        self.count = min(count, len(sequences))

    def __len__(self) -> int:
        return self.count


class Validation:
    """`run(p_frame, step, log)` evaluates every sequence, each process its share, and gathers the
    numbers exactly: the same results whatever the number of processes."""

    def __init__(self, accelerator: Accelerator, intra: FrameCodec, sequences: Any, stage: Stage,
                 config: TrainConfig, perception: Perception | None = None) -> None:
        self.accelerator = accelerator
        self.intra = intra
        self.stage = stage
        self.config = config
        self.perception = perception
        self.sequences = sequences
        if config.eval_max_sequences is not None:
            self.sequences = FirstSequences(sequences, config.eval_max_sequences)

    def run(self, p_frame: nn.Module, step: int, log: RunLog) -> dict[str, Any]:
        """Results as `evaluate` gives them, with "objective", the stage's loss, and "step". Of a codec
        with many qualities: those at the last of `eval_qualities`, with the mean loss over all, and
        "curve", the means at each."""
        if p_frame.rates is None or self.stage.lambdas is None:
            return self._run(p_frame, step, log, None, "val")
        # One model gives the whole curve: it is judged along all of it.
        curve, objectives = [], []
        for quality in self.config.eval_qualities:
            results = self._run(p_frame, step, log, quality, f"val q{quality:g}")
            curve.append({"quality": quality, **results["mean"]})
            objectives.append(results["objective"])
        objective = sum(objectives) / len(objectives)
        log.scalars("val", {"loss": objective}, step)
        return {**results, "objective": objective, "curve": curve}

    def _run(self, p_frame: nn.Module, step: int, log: RunLog, quality: float | None,
             group: str) -> dict[str, Any]:
        # One object for two callbacks: which sequence begins, and each frame that was coded.
        examples = Examples(step, log)
        # The stage's own distortion: while it trains the prediction, nothing else is worth seeing.
        results = evaluate(
            self.intra, p_frame, self.sequences, intra_period=self.config.eval_intra_period,
            distortion=self.stage.distortion, device=self.accelerator.device, quality=quality,
            process=self.accelerator.process_index, processes=self.accelerator.num_processes,
            gather=gather_object, progress=examples.begin, watch=examples.watch,
            measures=self.perception and self.perception.follow)
        log.show_activity("")
        mean = results["mean"]
        inter, intra = mean["P"], mean["I"]
        lmbda = self.config.lambda_value
        if quality is not None:
            lmbda = float(p_frame.rates.lambdas(torch.tensor(quality), self.stage.lambdas))
        # I-frames that are not trained here would only blur which weights are the best.
        if self.stage.intra:
            objective = lmbda * mean["all"]["mse"] + mean["all"]["bpp"]
        else:
            objective = stage_objective(self.stage, lmbda, inter["mse"], inter["bpp_terms"])
        seen = mean["all" if self.stage.intra else "P"]
        if self.perception is not None:
            # The stage's own distortion in place of the squared error.
            objective += lmbda * (self.perception.sum(seen["terms"]) - seen["mse"])
        results.update(step=step, objective=objective)
        # The table for people, the same numbers for curves.
        log.say(results_table(results))
        log.scalars(group, {
            "loss": objective, "psnr_i": intra["psnr"], "psnr_p": inter["psnr"],
            "bpp_i": intra["bpp"], "bpp_p": inter["bpp"], "psnr_copy": mean["copy_psnr"],
            **{f"bpp_{term}": value for term, value in inter["bpp_terms"].items()},
            **{f"term_{term}": value for term, value in seen.get("terms", {}).items()}}, step)
        p_frame.train()                          # evaluate has left it in eval mode
        return results


class Examples:
    """The first P-frame of the first few sequences in TensorBoard: original, reference,
    reconstruction."""

    COUNT = 3

    def __init__(self, step: int, log: RunLog) -> None:
        self.step = step
        self.log = log
        self.pictures = 0
        self.name = ""                           # of the sequence whose first P-frame is to come

    def begin(self, name: str) -> None:
        self.name = name
        self.log.show_activity(f"validating {name}")

    def watch(self, kind: str, frame: Tensor, reference: Tensor | None,
              output: FrameOutput) -> None:
        if kind == "P" and self.name and self.pictures < self.COUNT:
            # One picture of a sequence is enough: taking the name away skips its later P-frames.
            self.pictures += 1
            self.log.picture(f"original | reference | reconstruction/{self.name}",
                             [frame[0], reference[0], output.x_hat[0]], self.step)
            self.name = ""
