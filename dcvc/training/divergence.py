"""What happens when a loss or a gradient is not finite: skip the step, go back, or stop.

    steps        ok  ok  nan  ok   nan  nan  nan
    in a row      0   0   1    0    1    2    3      with max_skips 2: the third is one too many
                                              └─> back to latest.pt, the learning rate
                                                  times rollback_factor (max_rollbacks times, then
                                                  TrainingError)

Such a step has not touched the weights (dcvc.training.step). One bad batch is worth leaving out;
several in a row mean that the weights themselves have gone astray, and a smaller learning rate is
tried from where they were still good.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcvc.errors import TrainingError
from dcvc.models.run_folder import read_newest
from dcvc.training.config import SafetyOptions
from dcvc.training.run_log import RunLog
from dcvc.training.state import TrainingState


@dataclass(frozen=True, kw_only=True)
class DivergenceGuard:
    """Counts steps that were left out in `state`, which is saved: a resumed run counts on.

    label: of what is trained. folder: where latest.pt lies. how_to_continue: ends the message when
    training stops. load: takes a checkpoint's content and its file's name into the state.
    """

    state: TrainingState
    options: SafetyOptions
    label: str
    folder: Path
    log: RunLog
    how_to_continue: str
    load: Callable[[dict[str, Any], str], Any]

    def step_was_good(self) -> None:
        self.state.skipped_in_a_row = 0

    def step_was_left_out(self, loss: float, gradient_norm: float, files: str) -> bool:
        """The step that `state` counts last was left out. Returns whether training went back to a
        checkpoint.

        files: of its batch, for the message. Raises TrainingError when the limits are used up.
        """
        state = self.state
        state.skipped += 1
        state.skipped_in_a_row += 1
        # A loss that is not finite has no finite gradient: it is the cause, so it is named.
        what, value = ("gradient", gradient_norm) if math.isfinite(loss) else ("loss", loss)
        # The files: often it is one of them that is damaged, and the user can take it away.
        message = (f"{what} is {value:g} at step {state.step} of {self.label}; "
                   f"the batch's files: {files}")
        self.log.row("skipped", state.step, {
            "what": what, "value": f"{value:g}", "in_a_row": state.skipped_in_a_row})
        if state.skipped_in_a_row <= self.options.max_skips:
            self.log.warn(f"{message}. Update left out ({state.skipped_in_a_row} in a row, "
                          f"{state.skipped} in all)")
            return False
        if state.rollbacks >= self.options.max_rollbacks:
            raise TrainingError(f"{message}. Checkpoints before it are untouched; try a lower "
                                f"--learning_rate, then {self.how_to_continue}")
        self.go_back(message)
        return True

    def go_back(self, message: str) -> None:
        """All as in the last good checkpoint, except the learning rate and what is counted here."""
        state = self.state
        rate = state.learning_rate
        lower = rate * self.options.rollback_factor
        # Kept aside: loading puts the file's own counts in their place.
        skipped, rollbacks = state.skipped, state.rollbacks + 1
        # What the last time began from did not help: this time begin one checkpoint earlier.
        saved, file = read_newest(self.folder / "latest.pt", self.log.warn, skip=state.rollbacks)
        self.load(saved, str(file))
        state.skipped, state.skipped_in_a_row, state.rollbacks = skipped, 0, rollbacks
        state.learning_rate = lower
        # The rows of the steps that are about to be done again would be there twice.
        self.log.rewind(state.step)
        self.log.row("rollback", state.step, {"lr": lower, "number": rollbacks})
        self.log.warn(f"{message}. Going back to step {state.step} ({file.name}) with learning rate "
                      f"{lower:g} instead of {rate:g} "
                      f"({rollbacks} of {self.options.max_rollbacks} times)")
