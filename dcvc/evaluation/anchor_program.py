"""An anchor that is a program of the user's: HM, VTM, ECM, VVenC or any other.

    planes of all frames -> input.yuv -> program -> stream.bin     its bytes are the bits
                                            \\----> output.yuv -> planes of all frames -> metrics

The user gives a command with words in braces for what changes, several commands with && between
them; no shell runs them. For VTM:

    EncoderApp -c lowdelay.cfg -i {input} -wdt {width} -hgt {height} -fr {fps} -f {frames}
        -q {quality} --IntraPeriod={intra_period} --InputBitDepth={depth} -b {bitstream} -o {output}

With a quality of 32 on 96 frames the program gets `-f 96 -q 32` here. Samples of more than 8 bits
take two bytes, the lower one first. A program tells no bits of single frames: each counts as the
mean.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import InputError, ReadError
from dcvc.evaluation.anchor_frames import coded_colour, planes_to_code, shown
from dcvc.evaluation.frame_counter import FrameDone
from dcvc.evaluation.sequence_recorder import SequenceRecorder
from dcvc.files import temporary_folder
from dcvc.video.sample_planes import split_planes
from dcvc.video.yuv_to_rgb import Colour

NEEDED = ("input", "bitstream", "output", "quality")
KNOWN = (*NEEDED, "width", "height", "frames", "fps", "intra_period", "depth", "chroma")


@dataclass(frozen=True)
class Program:
    """name: of the curve; template: the commands; qualities: what {quality} stands for, a point
    each; seconds: how long a command may take."""

    name: str
    template: str
    qualities: tuple[int, ...]
    seconds: float

    def commands(self, values: dict[str, Any]) -> list[list[str]]:
        """One list of words for each command. Words are split before they are filled, so that a
        path with a space stays one."""
        return [[word.format(**values) for word in shlex.split(part)]
                for part in self.template.split("&&")]

    def check(self) -> None:
        """Raises InputError for a template that cannot run, before anything is coded."""
        where = f"--anchor_command {self.name}"
        try:
            commands = self.commands(dict.fromkeys(KNOWN, "1"))
        except KeyError as error:
            raise InputError(f"{where}: found {{{error.args[0]}}}, needed one of "
                             f"{', '.join(f'{{{name}}}' for name in KNOWN)}") from None
        except (ValueError, IndexError) as error:
            raise InputError(f"{where}: cannot be split into words ({error}); write {{{{ and }}}} "
                             "for braces") from None
        missing = [name for name in NEEDED if f"{{{name}}}" not in self.template]
        if missing:
            raise InputError(f"{where}: found no {{{missing[0]}}} in the command, needed it; "
                             "docs/evaluation.md has an example")
        if not all(commands):
            raise InputError(f"{where}: found an empty command beside &&, needed a program's name")


@dataclass(frozen=True)
class ProgramSetting:
    """One point of a program's curve; as AnchorSetting."""

    program: Program
    quality: int
    intra_period: int
    pixels: str

    @property
    def codec(self) -> str:
        return self.program.name

    @property
    def point(self) -> str:
        return f"q {self.quality}"

    @property
    def described(self) -> dict[str, Any]:
        return {"command": self.program.template, "quality": self.quality, "pixels": self.pixels,
                "frame_bits": "the mean: the program tells none of single frames"}

    @property
    def kept_by(self) -> dict[str, Any]:
        return {"gop": self.intra_period, "command": self.program.template,
                "quality": self.quality, "pixels": self.pixels}


def measure_program(setting: ProgramSetting, sequence: EvalSequence, recorder: SequenceRecorder,
                    frame_done: FrameDone) -> dict[str, Any]:
    """Run the program on one sequence -> its entry in a results point. Raises ReadError where it
    fails, takes too long, or decodes another number of frames."""
    where = f"{setting.codec} {setting.point} on {sequence.name}"
    colour, frame_bytes = coded_colour(sequence, setting.pixels), 0
    with temporary_folder() as folder:
        files = {name: folder / file for name, file in (
            ("input", "input.yuv"), ("bitstream", "stream.bin"), ("output", "output.yuv"))}
        with open(files["input"], "wb") as file:
            for source in sequence.source_frames():
                planes = planes_to_code(source, colour)
                frame_bytes = sum(map(file.write, (plane.tobytes() for plane in planes)))
        shapes = [plane.shape for plane in planes]
        values = {**files, "width": shapes[0][1], "height": shapes[0][0],
                  "frames": sequence.frames, "fps": f"{sequence.fps:g}",
                  "quality": setting.quality, "intra_period": setting.intra_period,
                  "depth": colour.depth, "chroma": 420 if colour.subsampling == (1, 1) else 444}
        seconds = [_run(command, setting.program.seconds, folder, where)
                   for command in setting.program.commands(values)]
        bits = 8 * _size(files["bitstream"], where, "bitstream")
        found, needed = _size(files["output"], where, "output"), frame_bytes * sequence.frames
        if found != needed or not bits:
            raise ReadError(f"{where}: found {found / frame_bytes:g} decoded frames and "
                            f"{bits // 8} bytes of the stream, needed {sequence.frames} frames of "
                            f"{shapes[0][1]}x{shapes[0][0]} {setting.pixels}")
        decoded = _frames(files["output"], shapes, colour)
        each = bits / sequence.frames
        for number, (source, planes) in enumerate(
                zip(sequence.source_frames(), decoded, strict=True)):
            x_hat, own = shown(planes, colour, source)
            kind = "P" if number % setting.intra_period else "I"
            recorder.add(kind, each, source.rgb, x_hat, source=source.planes, decoded=own)
            frame_done()
    # Of several commands the first encodes; one alone does both, and its time is the encoder's.
    return recorder.result(bits, encode_seconds=seconds[0], file_bytes=bits // 8,
                           decode_seconds=sum(seconds[1:]) if seconds[1:] else None)


def _run(command: list[str], limit: float, folder: Path, where: str) -> float:
    """Seconds that it took."""
    began, log = time.perf_counter(), folder / "log.txt"
    with open(log, "wb") as out:
        try:
            # A session of its own, so that the program's own children end with it.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       start_new_session=True)
        except OSError as error:
            raise ReadError(f"{where}: {command[0]} cannot be run ({error.strerror})") from None
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise ReadError(f"{where}: {command[0]} was still running after {limit:g} s and was "
                            "ended; --command_seconds allows more") from None
        finally:
            # Also where the user ends us: a program that codes for hours must not stay behind.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        last = re.split(r"[\r\n]+", log.read_text(errors="replace").strip())[-1][-200:]
        raise ReadError(f"{where}: {command[0]} ended with code {code} ({last or 'no word'})")
    return time.perf_counter() - began


def _size(path: Path, where: str, name: str) -> int:
    if not path.is_file():
        raise ReadError(f"{where}: the program wrote no file {{{name}}}, needed one")
    return path.stat().st_size


def _frames(path: Path, shapes: list[tuple[int, int]],
            colour: Colour) -> Iterator[list[np.ndarray]]:
    one = sum(rows * columns for rows, columns in shapes) * (1 if colour.depth == 8 else 2)
    with open(path, "rb") as file:
        while data := file.read(one):
            yield split_planes(data, shapes, colour.depth)
