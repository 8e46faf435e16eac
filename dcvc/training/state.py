"""Everything that training changes, in one object: what a checkpoint must hold to go on from it.

    state_dict()  {"model": weights,
                   "intra_model": weights of the I-frame codec, where it is trained too
                   "progress": {"step": 120, "best": 1.93},
                   "training": {"optimizer", "ema", "scheduler", "scaler",
                                "guard": (2, 0, 1), "to_judge"}}

No state of a random generator is kept: samples and noise of a step depend on the seed and the
step's number alone. That is what makes a resumed run equal a whole one, bit for bit.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dcvc.training.ema import EMA
from dcvc.weights import I_FRAME_WEIGHTS, check_finite_inside, load_weights


@dataclass(kw_only=True)
class TrainingState:
    """Weights, optimizer and what follows the weights; then how far training is.

    intra: the I-frame codec where it is trained too. averaged: what the average is of, `model` or
    both codecs as one module. others: further parts with state_dict and load_state_dict, by their
    names in the file. step: steps done. best: lowest validation loss. skipped, skipped_in_a_row: steps left out as not
    finite, in all and since the last good one. rollbacks: how often training went back to a
    checkpoint. to_judge: the logged values of the step done last, while its validation is not
    finished.
    """

    model: nn.Module
    optimizer: Any
    intra: nn.Module | None = None
    averaged: nn.Module | None = None
    ema: EMA | None = None
    scheduler: Any = None
    scaler: Any = None
    others: dict[str, Any] = field(default_factory=dict)

    step: int = 0
    best: float | None = None
    skipped: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    to_judge: dict[str, float] | None = None

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def _parts(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "ema": self.ema, "scheduler": self.scheduler,
                "scaler": self.scaler, **self.others}

    def state_dict(self) -> dict[str, Any]:
        """As drawn at the top of this file; None for a part that this training does without."""
        parts = {name: None if part is None else part.state_dict()
                 for name, part in self._parts().items()}
        # One tuple, as the divergence guard's counts have always been stored.
        guard = (self.skipped, self.skipped_in_a_row, self.rollbacks)
        intra = {} if self.intra is None else {I_FRAME_WEIGHTS: self.intra.state_dict()}
        return {"model": self.model.state_dict(), **intra,
                "progress": {"step": self.step, "best": self.best},
                "training": {**parts, "guard": guard, "to_judge": self.to_judge}}

    def load_state_dict(self, saved: dict[str, Any], where: str) -> None:
        """Take over what `state_dict` gave, or an older file's content. where: named in messages.

        Raises InputError when the weights are of another model.
        """
        load_weights(self.model, saved["model"], where)
        if self.intra is not None:
            load_weights(self.intra, saved[I_FRAME_WEIGHTS], where)
        training = saved["training"]
        # Weights that are finite would not stay so with moments that are not.
        for name in ("optimizer", "ema"):
            check_finite_inside(training.get(name), where, f"training.{name}")
        for name, part in self._parts().items():
            # A part that the file lacks was switched on since: it begins as it is.
            if part is not None and training.get(name) is not None:
                part.load_state_dict(training[name])
        if self.ema is not None and training.get("ema") is None:
            # The average was made of weights that have just been replaced.
            self.ema.restart(self.averaged or self.model)
        # Files written before steps could be left out have no such counts.
        self.skipped, self.skipped_in_a_row, self.rollbacks = training.get("guard", (0, 0, 0))
        self.to_judge = training.get("to_judge")
        # A VQGAN's file holds its step beside the weights, and no validation.
        progress = saved.get("progress", saved)
        self.step = int(progress["step"])
        self.best = progress.get("best")
