"""What a stage leaves in its run folder: latest.pt to go on from, ema.pt and best.pt to use."""

import time
from contextlib import nullcontext
from typing import Any

from dcvc.checkpoint import i_frame_can_be_inside, i_frame_content
from dcvc.intra.config import intra_entry
from dcvc.models.run_folder import keep_latest
from dcvc.training.interruption import SavePolicy
from dcvc.training.run_log import RunLog
from dcvc.training.stage_setup import PreparedStage
from dcvc.weights import write_checkpoint


class CheckpointWriter:
    """Writes on the main process alone; the others have the same weights.

    policy: is told how long writing takes.
    """

    def __init__(self, stage: PreparedStage, log: RunLog, policy: SavePolicy) -> None:
        self.stage = stage
        self.log = log
        self.policy = policy
        # Nothing of this changes while the stage runs.
        self._settings = stage.settings

    def _content(self) -> dict[str, Any]:
        """A checkpoint with everything, as dcvc.checkpoint describes it."""
        stage, job, state = self.stage, self.stage.job, self.stage.state
        # The codecs' configurations are in it: a file is of use without its run folder.
        content = state.state_dict()
        # A validation that was cut short is done again: only after it the stage is finished.
        finished = state.step >= stage.total_steps and state.to_judge is None
        content["progress"] |= {"stage": job.stage.number, "gop": job.stage.gop_size,
                                "steps": stage.total_steps, "finished": finished}
        # An I-frame codec that files of ours can hold is in it: it may have been trained here.
        if i_frame_can_be_inside(stage.step.intra):
            content |= i_frame_content(stage.step.intra)
        return {**content, "inter": self._settings["inter"],
                "intra": intra_entry(job.intra, job.folder), "settings": self._settings}

    def averaged_weights(self) -> Any:
        """A context in which the codecs have the weights that would be shipped: the average, where
        there is one."""
        ema = self.stage.state.ema
        return ema.swapped_into(self.stage.step.model) if ema else nullcontext()

    def write_latest(self) -> None:
        """ema.pt, then latest.pt with all it takes to go on from here; its predecessors move up."""
        began = time.monotonic()
        # First, because latest.pt is what says that the step is saved: a kill between the two
        # leaves an average that is newer than it need be, and never an older one.
        if self.stage.state.ema:
            with self.averaged_weights():
                self.write_weights("ema.pt")
        if self.stage.accelerator.is_main_process:
            keep_latest(self.stage.job.folder, self.stage.job.train.keep_checkpoints)
        self._write("latest.pt", self._content())
        self.policy.written(began)
        seconds = round(time.monotonic() - began, 3)
        self.log.row("checkpoint", self.stage.state.step, {"seconds": seconds})

    def write_weights(self, name: str) -> None:
        """The codec as it is, without what only training needs."""
        content = self._content()
        # Adam's two moments alone are twice as large as the weights.
        del content["training"]
        self._write(name, content)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        if self.stage.accelerator.is_main_process:
            write_checkpoint(self.stage.job.folder / name, content)
