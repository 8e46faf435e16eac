"""Anchors: what x264, x265, SVT-AV1, libaom and VP9 do with the same frames, measured as we are.

Every pair of a setting and a sequence is a task of its own: coded and measured (anchor_coding), or
found among what earlier calls kept. Tasks run one after another or are shared out over processes,
those of one sequence together, so that its frames are read once for all of them.

How the encoders are set up: anchor_encoders. A program of the user's in their place:
anchor_program.
"""

import hashlib
import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dcvc.data.eval_sequences import EvalSequence
from dcvc.device.processes import Share, shared
from dcvc.errors import InputError, ReadError
from dcvc.evaluation.anchor_coding import measure
from dcvc.evaluation.anchor_encoders import ANCHORS, AnchorSetting, find_anchor, missing_reason
from dcvc.evaluation.anchor_frames import pixels_for
from dcvc.evaluation.anchor_modes import MODES
from dcvc.evaluation.anchor_program import Program, ProgramSetting
from dcvc.evaluation.frame_counter import FrameDone, Progress, share_counted
from dcvc.evaluation.lpips import shared_lpips
from dcvc.evaluation.metric_names import chosen_metrics
from dcvc.evaluation.sequence_recorder import safe_name
from dcvc.evaluation.table import new_table
from dcvc.files import copy_file, write_text
from dcvc.report.results import make_point
from dcvc.weights import weights_hash

CACHE_VERSION = 2
Qualities = tuple[int, ...]     # CRF values


@dataclass(frozen=True)
class AnchorTask:
    """One setting on one sequence; plain data, so that it travels to other processes. digest: of
    the frames' content. picture: where the frame goes that the report shows. cache: where results
    are kept, None: nowhere."""

    setting: AnchorSetting | ProgramSetting
    sequence: EvalSequence
    digest: str
    picture: Path
    cache: Path | None
    lpips: tuple[str, ...]
    metrics: tuple[str, ...] | None

    @property
    def name(self) -> str:
        return f"{self.setting.codec} {self.setting.point} {self.sequence.name}"

    @property
    def frames(self) -> int:
        return self.sequence.frames

    @property
    def kept_as(self) -> str:
        """A key of everything that the result depends on."""
        sequence, network = self.sequence, shared_lpips(self.lpips)
        usual = chosen_metrics(None, planes=sequence.conditions is not None,
                               lpips=network is not None)
        # What has its usual value is left out: what was kept before there was a choice still
        # counts.
        content = {
            "version": CACHE_VERSION, "digest": self.digest, "frames": sequence.frames,
            "fps": sequence.fps, **self.setting.kept_by,
            "lpips": weights_hash(network.state_dict()) if network else None,
            **({} if self.metrics in (None, usual) else {"metrics": self.metrics}),
            **({"conditions": sequence.conditions.name} if sequence.conditions else {})}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def measure_task(task: AnchorTask, frame_done: FrameDone) -> dict[str, Any]:
    """The sequence's entry in a results point: as it was kept, or measured and kept."""
    if task.cache is None:
        return _measure(task, frame_done)
    key = task.kept_as
    entry, kept_picture = task.cache / f"{key}.json", task.cache / f"{key}.png"
    result = _kept_result(entry) if kept_picture.is_file() else None
    if result is None:
        result = _measure(task, frame_done)
        try:
            copy_file(task.picture, kept_picture)
            write_text(entry, json.dumps(result))
        except ReadError as error:
            # The next call measures anew, that is all.
            print(f"warning: result not kept: {error}", file=sys.stderr)
        return result
    copy_file(kept_picture, task.picture)
    # The same frames may have another name now, and the picture another place.
    result["name"], result["snapshot"]["file"] = task.sequence.name, str(task.picture)
    for _ in range(task.frames):
        frame_done()
    return result


def _measure(task: AnchorTask, frame_done: FrameDone) -> dict[str, Any]:
    return measure(task.setting, task.sequence, task.picture, task.metrics,
                   shared_lpips(task.lpips), frame_done, task.digest)


def _kept_result(entry: Path) -> dict[str, Any] | None:
    """None where nothing is kept, or where it is damaged: then it is measured anew and replaced."""
    try:
        return json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def chosen_anchors(anchors: dict[str, Qualities | None], preset: str | None) -> dict[str, Qualities]:
    """name -> qualities, checked before anything is coded. Raises InputError."""
    chosen = {}
    for name, qualities in anchors.items():
        anchor = find_anchor(name)
        if preset and preset not in anchor.presets:
            raise InputError(f"--speed: found {preset!r} for {name}, needed one of "
                             f"{', '.join(anchor.presets)}")
        chosen[name] = tuple(dict.fromkeys(qualities or anchor.qualities))
        bad = [quality for quality in chosen[name] if not 0 <= quality <= anchor.worst]
        if bad:
            raise InputError(f"--anchors: found CRF {bad[0]} for {name}, needed 0…{anchor.worst}")
    return chosen


def compare(sequences: list[EvalSequence], anchors: dict[str, Qualities | None], folder: Path, *,
            intra_period: int = 10, preset: str | None = None, cache: Path | None = None,
            command: str = "dcvc compare", lpips: tuple[str, ...] = (),
            metrics: tuple[str, ...] | None = None, progress: Progress | None = None,
            modes: tuple[str, ...] = MODES[:1], pixels: str | None = None,
            programs: tuple[Program, ...] = (), processes: int = 1,
            share: Share | None = None) -> dict[str, Any]:
    """Run every anchor (name -> qualities, None for its own) on every sequence -> a results table.

    Decoded frames for the report go to `folder`. Anchors that this FFmpeg lacks are listed under
    "missing". progress: called with (frames done, of how many, what). modes: of anchor_encoders, a
    curve each. pixels: what the encoders get, None: 8-bit 4:2:0, or the source's own planes where
    these are judged. programs: the user's own encoders. metrics: None for the usual ones.
    processes: the tasks are shared out over so many; the numbers are the same. share: over those
    that the caller has begun.
    """
    chosen = chosen_anchors(anchors, preset)
    formats = sorted({pixels_for(sequence, pixels) for sequence in sequences})
    if len(formats) > 1:
        raise InputError(f"compare: found sequences of {' and '.join(formats)}, needed one depth; "
                         "--anchor_pixels chooses the deeper one for all")
    with nullcontext(share) if share else shared(processes) as share:
        results = new_table(command, sequences, folder, intra_period=intra_period, lpips=lpips,
                            share=share, anchor_input=_input_in_words(sequences[0], formats[0]))
        settings: list[AnchorSetting | ProgramSetting] = []
        for name, mode in product(chosen, modes):
            wanted = [AnchorSetting(ANCHORS[name], quality, intra_period, preset, mode, formats[0])
                      for quality in chosen[name]]
            reason = missing_reason(ANCHORS[name], formats[0], mode)
            if reason:
                results["missing"].append({"codec": wanted[0].codec, "reason": reason})
            else:
                settings += wanted
        settings += [ProgramSetting(program, quality, intra_period, formats[0])
                     for program in programs for quality in program.qualities]
        digests = [described["digest"] for described in results["sequences"]]
        tasks = [AnchorTask(setting, sequence, digest, _picture(folder, sequence, setting), cache,
                            lpips, metrics)
                 for sequence, digest in zip(sequences, digests, strict=True) for setting in settings]
        rows = dict(share_counted(measure_task, tasks, share, progress))
        for number, setting in enumerate(settings):
            results["points"].append(make_point(
                setting.codec, kind="anchor", setting=setting.point, rates="written",
                settings=setting.described,
                sequences=[rows[task] for task in tasks[number::len(settings)]]))
        return results


def _picture(folder: Path, sequence: EvalSequence,
             setting: AnchorSetting | ProgramSetting) -> Path:
    name = f"{safe_name(sequence.name)}_{safe_name(setting.codec)}_{setting.quality}"
    return folder / f"{name}.png"


def _input_in_words(sequence: EvalSequence, pixels: str) -> str:
    if sequence.conditions is not None:
        return f"the source's own planes as {pixels}"
    return "8-bit 4:2:0 BT.709 limited range" if pixels == "yuv420p" else (
        f"{pixels}, BT.709 limited range")
