"""What a model is tuned on and what it is judged by: parts of one's own videos that never meet.

    several videos    every fourth one is held out, three at most
    one video         its last third is held out

For example one video of 300 frames:

    |--- run ---|   |--- run ---|   |--- run ---|   |---- judged ----|
    0                                             200              296  300

Training needs frames from all over, but not all of them: runs of `RUN` frames, spread evenly, are
written as short clips that are quick to seek in. What is judged is written without loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dcvc.data.segment_encoders import quick_options
from dcvc.data.video_list import list_videos
from dcvc.errors import InputError
from dcvc.video.frame_rate import exact_rate
from dcvc.video.places import absolute, stem_of
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter

# A quarter tells enough, and judging takes time that training needs.
HELD_OUT_EVERY, MOST_HELD_OUT = 4, 3
# Two seconds at 24 frames a second: longer than any training sample, short enough to spread.
RUN = 48
TRAINING_FRAMES = 3000          # of all videos together
JUDGED_FRAMES = 96              # of one video
# Samples of five frames need some choice; of fewer judged frames most bits are those of I-frames.
LEAST_TRAINED, LEAST_JUDGED = 8, 4
# z lies at 1/64 of the size.
SMALLEST_SIDE = 64
# Training sees what x264 loses at this rate as little as a viewer does.
QUICK = quick_options(keyframe=4, rate={"crf": "10"})
# A judged frame must be the source's own: qp 0 is lossless.
EXACT = {"preset": "veryfast", "g": "24", "qp": "0"}


@dataclass(frozen=True)
class Part:
    """Frames first ... end - 1 of a video."""

    path: str
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Clip:
    """A part, the file that it becomes, and how that is encoded."""

    part: Part
    file: Path
    options: dict[str, str]


def split(sources: Sequence[str], judged: str | None = None) -> tuple[list[Part], list[Part]]:
    """Parts to train on, parts to judge by: whole videos of the source `judged` where there is one.

    Raises MissingError and InputError for no videos, InputError for too few frames or sides that are
    too small, ReadError for what cannot be opened."""
    whole = _videos(sources)
    # Whoever names what to judge by has thought about it: nothing is held out then.
    if judged is not None:
        return _long_enough(whole, LEAST_TRAINED), _long_enough(_videos([judged]), LEAST_JUDGED)
    if len(whole) == 1:
        video, border = whole[0], len(whole[0]) * 2 // 3
        needed = LEAST_TRAINED * 3 // 2
        if len(video) < max(needed, 3 * LEAST_JUDGED):
            raise InputError(f"{video.path}: found {len(video)} frames, needed at least "
                             f"{max(needed, 3 * LEAST_JUDGED)}: a third is kept to judge by")
        return [Part(video.path, 0, border)], [Part(video.path, border, len(video))]
    # From the middle of each four: the first and the last video are often unlike the rest.
    held_out = whole[1::HELD_OUT_EVERY][:MOST_HELD_OUT]
    trained = [video for video in whole if video not in held_out]
    return _long_enough(trained, LEAST_TRAINED), _long_enough(held_out, LEAST_JUDGED)


def _videos(sources: Sequence[str]) -> list[Part]:
    """Every video of the sources once, whole."""
    # A video may be named by its folder and by itself: it must not be trained on and judged by.
    files = dict.fromkeys(absolute(file) for source in sources
                          for file in list_videos(source))
    return [_whole(file) for file in files]


def _long_enough(videos: list[Part], least: int) -> list[Part]:
    short = next((video for video in videos if len(video) < least), None)
    if short:
        raise InputError(f"{short.path}: found {len(short)} frames, needed at least {least}; "
                         "take this video out")
    return videos


def _whole(file: str) -> Part:
    with VideoReader(file) as reader:
        height, width = reader.size
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(f"{file}: found {width}x{height}, needed at least {SMALLEST_SIDE} pixels "
                             "a side")
        return Part(file, 0, len(reader))


def training_clips(parts: Sequence[Part], folder: Path) -> list[Clip]:
    """Runs spread evenly over the parts, each part with its share of TRAINING_FRAMES."""
    # Videos that fit are taken whole; of more, each gives the same share of itself.
    total, clips = sum(map(len, parts)), []
    share = min(1.0, TRAINING_FRAMES / total)
    for number, part in enumerate(parts):
        runs = max(1, round(len(part) * share / RUN))
        length = min(RUN, len(part) // runs)
        for run in range(runs):
            # The first run begins the part and the last one ends it.
            first = part.first + (run * (len(part) - length) // (runs - 1) if runs > 1 else 0)
            name = f"{number:04d}_{stem_of(part.path)[:60]}_{first:07d}.mp4"
            clips.append(Clip(Part(part.path, first, first + length), folder / name, QUICK))
    return clips


def judged_clips(parts: Sequence[Part], folder: Path, pixels: float) -> list[Clip]:
    """The first frames of each part: JUDGED_FRAMES, or fewer where all of them would have more than
    so many pixels."""
    clips = []
    for number, part in enumerate(parts):
        with VideoReader(part.path) as reader:
            height, width = reader.size
        # Large frames take longer to code, so there are fewer of them.
        affordable = int(pixels / len(parts) / (height * width))
        count = min(len(part), JUDGED_FRAMES, max(affordable, 4 * LEAST_JUDGED))
        name = f"{number:04d}_{stem_of(part.path)[:60]}.mp4"
        clips.append(Clip(Part(part.path, part.first, part.first + count), folder / name, EXACT))
    return clips


def write_clip(clip: Clip) -> None:
    """Raises ReadError for frames that cannot be decoded and a disk that is full. Odd sides lose
    their last row or column."""
    part = clip.part
    with VideoReader(part.path) as reader:
        # 4:2:0 has no odd sides.
        height, width = (side // 2 * 2 for side in reader.size)
        rate = exact_rate(reader.fps)
        with VideoWriter(clip.file, (width, height), rate, options=clip.options) as writer:
            # A few frames at a time: a long run of large ones would not fit in memory.
            for first in range(part.first, part.end, 8):
                frames = reader.read(first, min(8, part.end - first))
                for frame in frames[:, :, :height, :width].permute(0, 2, 3, 1).numpy():
                    writer.write(frame)


def write_clips(clips: Sequence[Clip]) -> None:
    """Those that are not there yet."""
    for clip in clips:
        # The writer renames a finished file to its name, so what is there is whole.
        if not clip.file.exists():
            write_clip(clip)
