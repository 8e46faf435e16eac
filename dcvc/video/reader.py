"""Exact random access to the frames of one video file.

A frame is found by its presentation time, which the file's index knows for every number. The reader
seeks to a keyframe, decodes forwards and takes the wanted frames. Containers, seeking and decoders
may all be wrong about a damaged file, or an odd one, so there is a ladder of attempts. Each begins
further back than the one before; the first that gives all wanted frames without an error ends it.

    try                                       why it may give nothing                      next
    1  go on with the last read's decoder     the frames lie elsewhere, or any error       2
    2  seek to the keyframe before the        seeking led behind it; a frame did not come  3
       first wanted frame                     out; the container calls a frame a keyframe
                                              that is none
    3  the same from each of the three        the file's own index is damaged              4
       keyframes before that, in turn
    4  open the file anew, decode from its    the keyframe of 2 did not come out           5
       start, count errors from the keyframe  as a keyframe
       of 2 on
    5  the same, but every error counts       the frame is not there                       ReadError

An error in a wanted frame, or in one since the keyframe, is a ReadError at once in 2 to 5:
beginning further back would decode the same damaged packets. Where a frame is only suspect
(SuspectFrame, see buffer_marks and decoder_run), the ladder is climbed once more:

    H.264 and others   from one keyframe further back; suspect again -> ReadError
    HEVC               with the second mark in the decoder's buffers, from the same keyframe and
                       from one further back; suspect in either -> ReadError

Files without usable times are counted (counted_read); dcvc streams have entries (coded_video).
"""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import av
import torch
from torch import Tensor

from dcvc.errors import InputError, ReadError
from dcvc.interfaces import Crop
from dcvc.video.buffer_marks import BufferMarks, SuspectFrame
from dcvc.video.coded_video import CODEC, CodedVideo, index_video, open_coded
from dcvc.video.container import OpenStream, open_decoder, reason
from dcvc.video.counted_read import CountedRead
from dcvc.video.decoder_run import DecoderRun, VerifiedPackets
from dcvc.video.file_index import FileIndex
from dcvc.video.frame_stack import FrameStack, Planes, coded_crop, frame_format
from dcvc.video.ordered_read import frames_in_order
from dcvc.video.places import plain
from dcvc.video.remote_file import no_lost_reads

# To keep a decoder going costs about as much as decoding this many frames (it has to look ahead),
# so a read must be likely to save more.
WORTH_GOING_ON = 4
# The nearest one and three before it.
KEYFRAMES_TO_TRY = 4


@dataclass(frozen=True)
class _Request:
    """Frames start, start+1 ... and the stacks that take them, one per crop."""

    start: int
    count: int
    stacks: list[FrameStack]


class _LastRead(NamedTuple):
    """The last read that began by seeking."""
    # The time of the keyframe it began at, None before any read.
    key_time: int | None = None
    # The time of its last frame.
    last_wanted: int = -1
    packets_sent: int = 0


class VideoReader:
    """The frames of a video file by number, in presentation order.

    path: the file; a dcvc stream too, decoded by the model here that made it or by `model` (a name, a
    run folder or a file). index: its FileIndex, made now if not given. matrix ("bt601", "bt709",
    "bt2020"), full_range: used instead of the file's colour tags. threads: decoder threads (1 suits
    loader workers). skip_unreferenced: leave out frames before the wanted ones that no other refers
    to: the same samples, faster, but damage in those goes unseen (on by itself for files that `dcvc
    index --verify` found whole, and for what an earlier read decoded without error).
    verified_until: where the latter is remembered (keyframe time -> packets from there on), a dict
    that readers of the same file may share.
    Raises MissingError, ReadError (cannot open, cannot decode, damaged).

    `len(reader)`: number of frames. `reader.fps`: average frames per second. `reader.size`:
    (height, width) of the displayed picture. Reading is thread-safe; after a fork the file is
    opened anew.
    """

    def __init__(self, path: str | os.PathLike, *, index: FileIndex | None = None,
                 matrix: str | None = None, full_range: bool | None = None, threads: int = 1,
                 skip_unreferenced: bool = False,
                 verified_until: dict[int, int] | None = None,
                 model: str | os.PathLike | None = None) -> None:
        self.index = index if index is not None else index_video(path, model)
        # The index may know more of the place: where it lies in a tar file.
        self.path = self.index.path if self.index.path == plain(path) else plain(path)
        self._options = {"matrix": matrix, "full_range": full_range, "threads": threads,
                         "skip_unreferenced": skip_unreferenced, "model": model}
        self._format, self.colour = frame_format(self.index, matrix, full_range)
        self._verified = VerifiedPackets(skip_unreferenced or self.index.verified,
                                         verified_until if verified_until is not None else {})
        self._container = self._stream = None
        # A dcvc stream, which FFmpeg has no part in.
        self._coded = self._open_coded() if self.index.codec == CODEC else None
        # The last read's run, where a later one may go on with it.
        self._run: DecoderRun | None = None
        self._last_read = _LastRead()
        # How many packets going on would have saved a read: a running mean.
        self._packets_saved = 0.0
        # Only HEVC's decoder leaves blocks undecoded without a word. H.264's conceals and flags
        # what is missing, VP9's and AV1's refuse it.
        self._marks = BufferMarks() if self.index.codec == "hevc" else None
        self._frame_times = frozenset(self.index.pts.tolist()) if self.index.fields else None
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
        return partial(VideoReader, self.path, index=self.index, **self._options), ()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._container is not None:
            self._container.close()
        self._container = self._stream = self._run = None
        if self._coded is not None:
            self._coded.close()
        if self._marks is not None:
            self._marks.forget_frames()

    def read(self, start: int, count: int, crop: Crop | None = None,
             out: str = "rgb") -> Tensor | Planes:
        """Frames start ... start+count-1.

        crop: (top, left, height, width) in pixels of the displayed picture. out: "rgb" gives uint8
        `(count, 3, height, width)`; "yuv" gives the samples as coded, a Planes (its `.rgb()` gives
        the same RGB).
        Raises InputError for frames or a crop outside of the video, ReadError if any wanted frame,
        or one it is predicted from, is damaged or missing: a concealed, repeated or grey frame is
        never returned.
        """
        if out not in ("rgb", "yuv"):
            raise InputError(f"out: found {out!r}, needed 'rgb' or 'yuv'")
        return self._read(start, count, [crop], out)[0]

    def read_crops(self, start: int, count: int, crops: Sequence[Crop]) -> list[Tensor]:
        """Several crops of the same frames from one decoding; as `read` otherwise."""
        return self._read(start, count, crops, "rgb")

    def _read(self, start: int, count: int, crops: Sequence[Crop | None],
              out: str) -> list[Tensor | Planes]:
        if count < 1 or start < 0 or start + count > len(self):
            raise InputError(f"{self.path}: frames {start} to {start + count - 1} asked, "
                             f"found {len(self)} frames")
        request = _Request(start, count, [self._new_stack(count, crop, out) for crop in crops])
        with self._lock, no_lost_reads(self.close):
            if self._coded is not None:
                for place, frame in enumerate(self._coded.frames(start, count)):
                    self._put(request, place, frame)
            elif self.index.counted:
                self._read_counting(request)
            else:
                try:
                    self._read_seeking(request)
                except SuspectFrame:
                    self._read_suspect(request)
        return [stack.result(self.index.orientation) for stack in request.stacks]

    def __iter__(self) -> Iterator[Tensor]:
        return self.frames()

    def frames(self, out: str = "rgb") -> Iterator[Tensor | Planes]:
        """Every frame in order, holding one: uint8 `(3, H, W)`, or Planes (`out` as of `read`).
        Raises ReadError at the first bad frame."""
        picture = partial(self._picture, out=out)
        if self._coded is not None:  # as below, with a place of its own
            yield from map(picture, self._open_coded().frames(0, len(self)))
            return
        counted, pts = self.index.counted, self.index.pts
        # A file and marks of its own: `read` may be called between two frames.
        container, stream = self._open_file()
        marks = BufferMarks() if self._marks is not None and not counted else None
        number = 0
        try:
            for frame in frames_in_order((container, stream), self.index, self._damaged):
                if marks is not None:
                    marks.mark_later(frame)
                # Frames outside the index (edit lists, before the first keyframe) are passed over.
                if counted or (number < len(self) and frame.pts == pts[number]):
                    try:
                        if marks is not None:
                            marks.check(frame)
                    except SuspectFrame:
                        # Raises unless the frame is as it should be.
                        self.read(number, 1)
                    yield picture(frame, number)
                    number += 1
                elif number < len(self) and frame.pts is not None and frame.pts > pts[number]:
                    break
                if number == len(self):
                    return
            raise self._damaged(number, "FFmpeg gave no such frame")
        finally:
            container.close()

    def _open_coded(self) -> CodedVideo:
        return open_coded(self.path, self.index, self._options["model"])

    def _picture(self, frame: av.VideoFrame, number: int = 0, out: str = "rgb") -> Tensor | Planes:
        request = _Request(number, 1, [self._new_stack(1, None, out)])
        self._put(request, 0, frame)
        result = request.stacks[0].result(self.index.orientation)
        return result[0] if out == "rgb" else result

    def _new_stack(self, count: int, crop: Crop | None, out: str) -> FrameStack:
        height, width = self.size
        crop = tuple(crop) if crop is not None else (0, 0, height, width)
        (top, left), (rows, columns) = crop[:2], crop[2:]
        if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
            raise InputError(f"{self.path}: crop (top, left, height, width) {crop} does not fit "
                             f"into {height}x{width}")
        return FrameStack(
            count=count, crop=coded_crop(crop, self.index),
            coded_size=(width, height) if self.index.orientation[0] else (height, width),
            reformat=self._format if self._format != self.index.pix_fmt else None,
            colour=self.colour, out=out,
        )

    def _open_file(self) -> OpenStream:
        container, stream = open_decoder(self.path, self._options["threads"])
        size = container.size
        if size >= 0 and size != self.index.file_size:
            container.close()
            raise ReadError(f"{self.path}: found {size} bytes, needed {self.index.file_size} as "
                            "when it was indexed; run `dcvc index` again")
        return container, stream

    def _kept_file(self) -> OpenStream:
        """The file, opened in this process and kept open."""
        # A file opened before a fork would share its position with the parent.
        if self._container is not None and self._process != os.getpid():
            self.close()
            # Of OpenMP's threads a fork copies none; torch would wait for them for ever. A
            # DataLoader does the same.
            torch.set_num_threads(1)
        if self._container is None:
            self._container, self._stream = self._open_file()
            self._process = os.getpid()
        return self._container, self._stream

    def _read_seeking(self, request: _Request, back: int = 0) -> None:
        """The ladder of attempts. back: begin this many keyframes before the nearest one."""
        times = self.index.pts[request.start: request.start + request.count]
        wanted = {int(time): place for place, time in enumerate(times)}
        keys = self.index.keys
        nearest = max(0, int(keys.searchsorted(times[0], "right")) - 1 - back)
        if self._go_on(request, wanted, int(keys[nearest])):
            return
        for key_time in reversed(keys[max(0, nearest + 1 - KEYFRAMES_TO_TRY): nearest + 1]):
            if self._seek_and_decode(int(key_time), request, wanted):
                return
        for errors_from in (int(keys[nearest]), None):
            # What a decoder remembers, and where seeking left the file, must not matter here.
            self.close()
            if self._decode_from_start(errors_from, request, wanted):
                return
        self.close()
        raise self._damaged(request.start, "FFmpeg gave no such frame")

    def _go_on(self, request: _Request, wanted: dict[int, int], key_time: int) -> bool:
        """Try the last read's decoder. Any trouble: False, and the usual way has to tell."""
        run, self._run = self._run, None
        last = self._last_read
        possible = last.key_time == key_time and last.last_wanted < min(wanted)
        # Random reads must not pay for looking ahead: each of them takes a quarter off the mean.
        self._packets_saved += 0.25 * (last.packets_sent * possible - self._packets_saved)
        container = self._container
        if run is None or not possible or self._kept_file()[0] is not container:
            return False
        try:
            return self._finish(run, request, wanted)
        except (ReadError, SuspectFrame):
            return False

    def _seek_and_decode(self, key_time: int, request: _Request, wanted: dict[int, int]) -> bool:
        container, stream = self._kept_file()
        try:
            container.seek(key_time, stream=stream, backward=True)
        except av.error.FFmpegError as error:
            raise self._damaged(request.start, reason(error)) from None
        return self._finish(self._new_run(), request, wanted)

    def _decode_from_start(self, errors_from: int | None, request: _Request,
                           wanted: dict[int, int]) -> bool:
        """errors_from: the keyframe from which on errors count (None: all of them count)."""
        run = self._new_run(errors_from)
        return self._finish(run, request, wanted, sought=False,
                            check_keyframe=errors_from is not None)

    def _new_run(self, key_time: int | None = None) -> DecoderRun:
        """A run from where the file stands."""
        container, stream = self._kept_file()
        return DecoderRun(
            stream.codec_context, container.demux(stream),
            verified=self._verified, marks=self._marks,
            damaged=lambda time, why: self._damaged(int(self.index.pts.searchsorted(time)), why),
            key_time=key_time,
            frame_times=self._frame_times,
        )

    def _finish(self, run: DecoderRun, request: _Request, wanted: dict[int, int], *,
                sought: bool = True, check_keyframe: bool = True) -> bool:
        """Let the run read the wanted frames, and keep it where a later read may go on with it.

        sought: it began at a keyframe, where later reads will begin too.
        """
        # HEVC never goes on: its buffers can only be marked between two runs.
        go_on = sought and self._marks is None and self._packets_saved > WORTH_GOING_ON
        good = False
        try:
            good = run.read(wanted, partial(self._put, request), go_on)
            good = good and (not check_keyframe or run.begins_with_keyframe())
        except av.error.FFmpegError as error:
            raise self._damaged(request.start, reason(error)) from None
        finally:
            if run.met_errors:
                # FFmpeg's MPEG-4 decoder remembers errors beyond a seek.
                self.close()
            elif good and sought:
                self._verified.add(run.key_time, run.packets_verified)
                self._last_read = _LastRead(run.key_time, run.last_wanted, run.packets_sent)
                self._run = None if run.ended else run
        return good

    def _read_suspect(self, request: _Request) -> None:
        """The ladder once more, for frames that are suspect. Raises ReadError if they still are."""
        if self._marks is None:
            try:
                return self._read_seeking(request, back=1)
            except SuspectFrame as suspect:
                raise self._damaged(request.start, f"FFmpeg: {suspect}") from None
        try:
            container, stream = self._kept_file()
            container.seek(int(self.index.keys[0]), stream=stream, backward=True)
            self._marks.use_second_mark(stream.codec_context, container.demux(stream))
            # No mark may be left, whichever keyframe decoding begins at. What the second reading
            # gave is returned.
            for back in (0, 1):
                self._read_seeking(request, back)
        except (SuspectFrame, av.error.FFmpegError):
            why = "FFmpeg left a part of it, or of a frame before it, undecoded"
            raise self._damaged(request.start, why) from None
        finally:
            self.close()
            self._marks = BufferMarks()

    def _read_counting(self, request: _Request) -> None:
        put = partial(self._put, request)
        opened = self._open_file()
        with opened[0]:
            CountedRead(request.start, request.count, put, self._damaged).run(opened)

    def _put(self, request: _Request, place: int, frame: av.VideoFrame) -> None:
        # A damaged header may change size and format in the middle of a file.
        height, width = request.stacks[0].coded_size
        size, pix_fmt = (frame.height, frame.width), frame.format.name
        if size != (height, width) or pix_fmt != self.index.pix_fmt:
            why = (f"it is {frame.width}x{frame.height} {pix_fmt}, "
                   f"needed {width}x{height} {self.index.pix_fmt}")
            raise self._damaged(request.start + place, why)
        for stack in request.stacks:
            stack.put(place, frame)

    def _damaged(self, number: int, why: str) -> ReadError:
        return ReadError(f"{self.path}: cannot decode frame {number} ({why})")
