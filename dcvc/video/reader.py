"""Exact random access to the frames of one video file."""

import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial

import av
import torch
from torch import Tensor

from dcvc.errors import InputError, ReadError
from dcvc.video.buffer_marks import Suspect, Undecoded
from dcvc.video.container import decoder_options, open_container, reason, video_stream
from dcvc.video.decoder_run import Run, Sound
from dcvc.video.file_index import FileIndex, index_file
from dcvc.video.frame_stack import FrameStack, Planes, coded_crop, frame_format

# Frames whose decoding a read must be likely to save before a decoder is kept going: about what that costs.
_WORTH_KEEPING = 4


class VideoReader:
    """The frames of a video file by number, in presentation order.

    path: the file. index: its FileIndex, made now if not given. matrix ("bt601", "bt709", "bt2020"), full_range: used
    instead of the file's colour tags. threads: decoder threads (1 suits loader workers). skip_unreferenced: leave out
    frames before the wanted ones that no other refers to: the same samples, faster, but damage in those goes unseen
    (on by itself for files that `dcvc index --verify` found whole, and for what an earlier read decoded without error).
    sound: where the latter is remembered, a dict that readers of the same file may share.
    Raises MissingError, ReadError (cannot open, cannot decode, damaged).

    `len(reader)`: number of frames. `reader.fps`: average frames per second. `reader.size`: (height, width) of the
    displayed picture. Reading is thread-safe; after a fork the file is opened anew.
    """

    def __init__(self, path: str | os.PathLike, *, index: FileIndex | None = None, matrix: str | None = None,
                 full_range: bool | None = None, threads: int = 1, skip_unreferenced: bool = False,
                 sound: dict[int, int] | None = None) -> None:
        self.path = os.fspath(path)
        self.index = index if index is not None else index_file(self.path)
        self._options = {"matrix": matrix, "full_range": full_range, "threads": threads,
                         "skip_unreferenced": skip_unreferenced}
        self._threads = threads
        self._format, self.colour = frame_format(self.index, matrix, full_range)
        self._sound = Sound(skip_unreferenced or self.index.verified, sound if sound is not None else {})
        self._container = self._stream = None
        self._run: Run | None = None        # the last read's, where a later one may go on with it
        self._where = None, -1, 0           # its keyframe, its last frame, its packets
        self._saved = 0.0                   # packets that going on would have saved a read, of late
        # H.264's decoder conceals and flags what is missing, VP9's and AV1's refuse it.
        self._undecoded = Undecoded() if self.index.codec == "hevc" else None
        self._process = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def fps(self) -> float:
        return self.index.fps

    @property
    def size(self) -> tuple[int, int]:
        return self.index.height, self.index.width

    def __reduce__(self):
        return _rebuild, (self.path, self.index, self._options)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._container is not None:
            self._container.close()
        self._container = self._stream = self._run = None
        if self._undecoded is not None:
            self._undecoded.forget()

    def read(self, start: int, count: int, crop: tuple[int, int, int, int] | None = None,
             out: str = "rgb") -> Tensor | Planes:
        """Frames start ... start+count-1.

        crop: (top, left, height, width) in pixels of the displayed picture. out: "rgb" gives uint8
        `(count, 3, height, width)`; "yuv" gives the samples as coded, a Planes (its `.rgb()` gives the same RGB).
        Raises InputError for frames or a crop outside of the video, ReadError if any wanted frame, or one it is
        predicted from, is damaged or missing: a concealed, repeated or grey frame is never returned.
        """
        if out not in ("rgb", "yuv"):
            raise InputError(f"out: found {out!r}, needed 'rgb' or 'yuv'")
        if count < 1 or start < 0 or start + count > len(self):
            raise InputError(f"{self.path}: frames {start} to {start + count - 1} asked, found {len(self)} frames")
        return self._read(start, count, [crop], out)[0]

    def read_crops(self, start: int, count: int, crops: Sequence[tuple[int, int, int, int]]) -> list[Tensor]:
        """Several crops of the same frames from one decoding; as `read` otherwise."""
        if count < 1 or start < 0 or start + count > len(self):
            raise InputError(f"{self.path}: frames {start} to {start + count - 1} asked, found {len(self)} frames")
        return self._read(start, count, crops, "rgb")

    def _read(self, start: int, count: int, crops: Sequence[tuple[int, int, int, int] | None],
              out: str) -> list[Tensor | Planes]:
        stacks = [self._stack(count, crop, out) for crop in crops]
        with self._lock:
            if self.index.counted:
                self._read_counting(start, count, stacks)
            else:
                try:
                    self._read_seeking(start, count, stacks)
                except Suspect:
                    self._read_suspect(start, count, stacks)
        return [stack.result(self.index.orientation) for stack in stacks]

    def __iter__(self) -> Iterator[Tensor]:
        """Every frame in order, uint8 `(3, H, W)`, holding one at a time. Raises ReadError at the first bad frame."""
        container, stream = self._open()
        undecoded = Undecoded() if self._undecoded is not None and not self.index.counted else None
        try:
            number = 0
            for frame in self._sequence(container, stream):
                if undecoded is not None:
                    undecoded.hold(frame)
                if self.index.counted or (number < len(self) and frame.pts == self.index.pts[number]):
                    try:
                        if undecoded is not None:
                            undecoded.check(frame)
                    except Suspect:
                        self.read(number, 1)
                    stack = self._stack(1, None, "rgb")
                    self._put([stack], number, 0, frame)
                    yield stack.result(self.index.orientation)[0]
                    number += 1
                elif number < len(self) and frame.pts is not None and frame.pts > self.index.pts[number]:
                    raise self._damaged(number, "FFmpeg gave no such frame")
                if number == len(self):
                    return
            raise self._damaged(number, "FFmpeg gave no such frame")
        finally:
            container.close()

    def _stack(self, count: int, crop: tuple[int, int, int, int] | None, out: str) -> FrameStack:
        height, width = self.size
        top, left, rows, columns = crop = tuple(crop) if crop is not None else (0, 0, height, width)
        if min(top, left) < 0 or min(rows, columns) < 1 or top + rows > height or left + columns > width:
            raise InputError(f"{self.path}: crop (top, left, height, width) {crop} does not fit into {height}x{width}")
        coded = (width, height) if self.index.orientation[0] else (height, width)
        reformat = self._format if self._format != self.index.pix_fmt else None
        return FrameStack(count, coded_crop(crop, self.index), coded, reformat, self.colour, out)

    def _open(self):
        container = open_container(self.path)
        stream = video_stream(container, self.path)
        context = stream.codec_context
        context.thread_count = self._threads
        context.thread_type = "AUTO" if self._threads != 1 else "NONE"
        context.options = decoder_options(context.name)
        size = container.size
        if size >= 0 and size != self.index.file_size:
            container.close()
            raise ReadError(f"{self.path}: found {size} bytes, needed {self.index.file_size} as when it was "
                            "indexed; run `dcvc index` again")
        return container, stream

    def _opened(self):
        """The open file of this process: one opened before a fork would share its position with the parent."""
        if self._container is not None and self._process != os.getpid():
            self.close()
            # Of OpenMP's threads a fork copies none; torch would wait for them for ever. A DataLoader does the same.
            torch.set_num_threads(1)
        if self._container is None:
            self._container, self._stream = self._open()
            self._process = os.getpid()
        return self._container, self._stream

    def _read_seeking(self, start: int, count: int, stacks: list[FrameStack], back: int = 0) -> None:
        """back: begin this many keyframes before the nearest one."""
        pts = self.index.pts[start: start + count]
        wanted = {int(time): position for position, time in enumerate(pts)}
        key = max(0, int(self.index.keys.searchsorted(pts[0], "right")) - 1 - back)
        if self._goes_on(int(self.index.keys[key]), wanted, start, stacks):
            return
        for entry in reversed(self.index.keys[max(0, key - 3): key + 1]):
            if self._try_from(int(entry), wanted, start, stacks):
                return
        self.close()  # seeking did not lead there: from the very start, the file opened anew
        for entry in (int(self.index.keys[key]), None):
            if self._try_from(None, wanted, start, stacks, entry):
                return
            self.close()
        raise self._damaged(start, "FFmpeg gave no such frame")

    def _goes_on(self, key: int, wanted: dict[int, int], start: int, stacks: list[FrameStack]) -> bool:
        """Whether the last read's run led to the wanted frames. Any trouble: False, and the usual way has to tell."""
        run, self._run = self._run, None
        began, last, sent = self._where
        ahead = began == key and last < min(wanted)
        self._saved += 0.25 * (sent * ahead - self._saved)
        container = self._container
        if run is None or not ahead or self._opened()[0] is not container:
            return False
        try:
            return self._finish(run, wanted, start, stacks)
        except (ReadError, Suspect):
            return False

    def _read_suspect(self, start: int, count: int, stacks: list[FrameStack]) -> None:
        """Once more, from further back; and before, for HEVC, with other marks in the decoder's buffers."""
        if self._undecoded is None:
            try:
                return self._read_seeking(start, count, stacks, back=1)
            except Suspect as suspect:
                raise self._damaged(start, f"FFmpeg: {suspect}") from None
        try:
            container, stream = self._opened()
            container.seek(int(self.index.keys[0]), stream=stream, backward=True)
            self._undecoded.change_mark(stream.codec_context, container.demux(stream))
            for back in (0, 1):
                self._read_seeking(start, count, stacks, back)
        except (Suspect, av.error.FFmpegError):
            raise self._damaged(start, "FFmpeg left a part of it, or of a frame before it, undecoded") from None
        finally:
            self.close()
            self._undecoded = Undecoded()

    def _try_from(self, key: int | None, wanted: dict[int, int], start: int, stacks: list[FrameStack],
                  entry: int | None = None) -> bool:
        """Decode from keyframe time `key` (None: the start of the file) until `wanted` are in `stacks`.

        entry: with key=None, the keyframe from which on errors count (None: all count)."""
        container, stream = self._opened()
        try:
            if key is not None:
                container.seek(key, stream=stream, backward=True)
        except av.error.FFmpegError as error:
            raise self._damaged(start, reason(error)) from None
        run = Run(stream.codec_context, container.demux(stream), self._sound, self._undecoded,
                  lambda time, why: self._damaged(self._number(time), why), entry)
        return self._finish(run, wanted, start, stacks, key is not None, key is not None or entry is not None)

    def _finish(self, run: Run, wanted: dict[int, int], start: int, stacks: list[FrameStack], begins: bool = True,
                check: bool = True) -> bool:
        """begins: the run began at a keyframe, where others will. check: that the keyframe is one."""
        go_on = begins and self._undecoded is None and self._saved > _WORTH_KEEPING
        good = False
        try:
            good = run.read(wanted, partial(self._put, stacks, start), go_on)
            good = good and (not check or run.begins_with_keyframe())
        except av.error.FFmpegError as error:
            raise self._damaged(start, reason(error)) from None
        finally:
            if run.met_errors:
                self.close()  # FFmpeg's MPEG-4 decoder remembers errors beyond a seek
            elif good and begins:
                self._sound.found(run.began, run.checked)
                self._where = run.began, run.last, run.sent
                self._run = None if run.over else run
        return good

    def _read_counting(self, start: int, count: int, stacks: list[FrameStack]) -> None:
        """Decode from the start of the file, counting what comes out.

        Packets are numbered in decoding order, which frames inherit: errors count from the keyframe before the wanted
        frames up to the last packet that those can depend on."""
        container, stream = self._open()
        errors: list[int] = []
        number, entry, last = 0, 0, -1

        def take(frames) -> None:
            nonlocal number, entry, last
            for frame in frames:
                place = frame.pts if frame.pts is not None else sent
                if frame.is_corrupt:
                    errors.append(place)
                if frame.key_frame and number <= start:
                    entry = place
                if start <= number < start + count:
                    self._put(stacks, start, number - start, frame)
                    last = max(last, place)
                number += 1

        try:
            sent = -1
            for sent, packet in enumerate(_whole_packets(container, stream)):
                if packet.is_corrupt:
                    errors.append(sent)
                packet.pts = packet.dts = sent
                try:
                    take(stream.codec_context.decode(packet))
                except av.error.FFmpegError:
                    errors.append(sent)
                if number >= start + count:
                    break
            try:
                take(stream.codec_context.decode(None))
            except av.error.FFmpegError:
                errors.append(sent)
            if number < start + count:
                raise self._damaged(number, "FFmpeg gave no such frame")
            if any(entry <= place <= last for place in errors):
                raise self._damaged(start, "FFmpeg found errors since the keyframe before")
        finally:
            container.close()

    def _sequence(self, container, stream) -> Iterator[av.VideoFrame]:
        """All frames from the start. A damaged frame raises ReadError."""
        number = 0
        try:
            for packet in container.demux(stream):
                for frame in stream.codec_context.decode(packet if packet.size else None):
                    if frame.is_corrupt:
                        raise self._damaged(number, "FFmpeg found errors and concealed them")
                    yield frame
                    number += 1
                if not packet.size:
                    return
        except av.error.FFmpegError as error:
            raise self._damaged(number, reason(error)) from None

    def _put(self, stacks: list[FrameStack], start: int, position: int, frame: av.VideoFrame) -> None:
        if (frame.height, frame.width) != stacks[0].coded_size or frame.format.name != self.index.pix_fmt:
            height, width = stacks[0].coded_size
            raise self._damaged(start + position, f"it is {frame.width}x{frame.height} {frame.format.name}, "
                                                  f"needed {width}x{height} {self.index.pix_fmt}")
        for stack in stacks:
            stack.put(position, frame)

    def _number(self, time: int) -> int:
        return int(self.index.pts.searchsorted(time))

    def _damaged(self, number: int, why: str) -> ReadError:
        return ReadError(f"{self.path}: cannot decode frame {number} ({why})")


def _whole_packets(container, stream) -> Iterator[av.Packet]:
    """Packets with something in them, up to the end or to where the file cannot be read further."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        return


def _rebuild(path: str, index: FileIndex, options: dict) -> VideoReader:
    return VideoReader(path, index=index, **options)
