"""Sound and subtitles of one file, copied into another packet by packet. Nothing is decoded.

Packets keep their times, so sound stays where it was beside the pictures. They are handed over a
little at a time, up to the time of the picture that was written last: a file that had all its sound
at the end could not be played while it is read.
"""

import os
from collections.abc import Iterator
from fractions import Fraction

import av

from dcvc.errors import InputError, ReadError
from dcvc.video.container import open_container, reason
from dcvc.video.frame_times import ROUNDING
from dcvc.video.remote_file import checked_reads

# Of a track's metadata, what tells a viewer which one to choose.
KEPT_METADATA = ("language", "title")
# Seconds before time 0. Decoders of sound need a packet or two before the first that is heard.
WARM_UP = Fraction(1, 5)


class CopiedTracks:
    """`with CopiedTracks(path) as tracks:` the audio and subtitle tracks of a file. All their times
    become `start` seconds earlier; what is then before 0 is left out.

    sounds: how many audio tracks. left_out: subtitles that the target cannot hold, in words.
    Raises MissingError, ReadError.
    """

    def __init__(self, path: str | os.PathLike, start: Fraction = Fraction(0)) -> None:
        self.path, self.start = os.fspath(path), start
        self._source = open_container(self.path)
        self.sounds = len(self._source.streams.audio)
        self.left_out: list[str] = []
        # Index of a track in the source -> the track in the target; filled by `add_to`.
        self._targets: dict[int, av.stream.Stream] = {}
        # Index -> when the next packet begins if sound goes on without a gap, seconds.
        self._next: dict[int, Fraction] = {}
        self._packets: Iterator[av.Packet] = iter(())
        self._waiting: av.Packet | None = None
        self._output: av.container.OutputContainer | None = None

    def __enter__(self) -> "CopiedTracks":
        return self

    def __exit__(self, *reason) -> None:
        self._source.close()

    def add_to(self, output: av.container.OutputContainer, name: str) -> None:
        """Declare the tracks, chapters and title in a file to be written; name: of that file.

        Raises InputError for sound that its format cannot hold.
        """
        self._output = output
        for number, stream in enumerate(self._source.streams.audio):
            try:
                self._add(stream)
            # PyAV's word for a format that has no name for the codec.
            except ValueError:
                other = "" if output.format.name == "matroska" else "choose .mkv or "
                raise InputError(
                    f"{name}: audio track {number} of {self.path} is {_codec(stream)}, which "
                    f"{output.format.name} cannot hold; {other}convert the sound first") from None
        for stream in self._source.streams.subtitles:
            try:
                self._add(stream)
            except ValueError:
                # Pictures and sound are complete without them.
                self.left_out.append(f"subtitles ({_codec(stream)})")
        output.set_chapters([self._earlier(chapter) for chapter in self._source.chapters()])
        if "title" in self._source.metadata:
            output.metadata["title"] = self._source.metadata["title"]
        wanted = [self._source.streams[index] for index in self._targets]
        # Without this, FFmpeg would keep all packets of the pictures for a reader that never comes.
        for stream in self._source.streams:
            if stream not in wanted:
                stream.discard = av.stream.Discard.all
        self._packets = self._demux(wanted) if wanted else iter(())

    def _add(self, stream: av.stream.Stream) -> None:
        if stream.codec_context is None:
            raise ValueError("FFmpeg does not know the codec")
        copy = self._output.add_stream_from_template(stream)
        copy.metadata.update({key: stream.metadata[key] for key in KEPT_METADATA
                              if key in stream.metadata})
        copy.disposition = stream.disposition
        self._targets[stream.index] = copy

    def write_until(self, time: Fraction | None) -> None:
        """Write the packets that begin before `time` seconds; None: all that are left. Raises
        ReadError."""
        while True:
            packet = self._waiting or next(self._packets, None)
            if packet is None:
                return
            if time is not None and _begin(packet) >= time:
                # It waits for the next call.
                self._waiting = packet
                return
            self._waiting = None
            packet.stream = self._targets[packet.stream_index]
            try:
                self._output.mux(packet)
            # FFmpeg's errors of the disk are OSErrors, which whoever opened the file reports.
            except ValueError as error:
                raise ReadError(f"{self.path}: its sound cannot be copied ({reason(error)}); "
                                "convert the sound first") from None

    def _demux(self, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
        """The packets that are to be written, in the file's order. Raises ReadError."""
        try:
            for packet in checked_reads(self._source.demux(streams)):
                # Empty: the end.
                if not packet.size or _stamp(packet) is None or _is_hidden(packet):
                    continue
                self._continue(packet)
                packet.pts = packet.dts = _stamp(packet) - round(self.start / packet.time_base)
                # The start of a file is known in other units than its packets' times.
                if not self.start or _begin(packet) >= -ROUNDING:
                    yield packet
        except av.error.FFmpegError as error:
            raise ReadError(f"{self.path}: cannot read its sound ({reason(error)})") from None

    def _earlier(self, chapter: dict) -> dict:
        shift = round(self.start / chapter["time_base"])
        return {**chapter, "start": chapter["start"] - shift, "end": chapter["end"] - shift}

    def _continue(self, packet: av.Packet) -> None:
        """Give back to a packet the exact time that milliseconds took away.

            AAC, 44100 Hz                   0     1024     2048     3072     samples
            in Matroska                     0 ms    23 ms    46 ms    70 ms
            read as samples                 0     1014     2029     3087     a jitter in .mp4
            each packet ends the last one   0     1024     2048     3072
        """
        context = self._source.streams[packet.stream_index].codec_context
        # Not of sound whose packets differ in length, nor of subtitles.
        samples = getattr(context, "frame_size", 0)
        if not samples:
            return
        begin, length = _begin(packet), Fraction(samples, context.sample_rate)
        expected = self._next.get(packet.stream_index, begin)
        # Where they disagree by more than the rounding there is a gap, and the file is right.
        if abs(expected - begin) > packet.time_base:
            expected = begin
        self._next[packet.stream_index] = expected + length
        seconds = (packet.duration or 0) * packet.time_base
        # A last packet may be shorter than the others.
        if abs(seconds - length) > packet.time_base:
            length = seconds
        packet.pts = packet.dts = round(expected * context.sample_rate)
        packet.duration = round(length * context.sample_rate)
        packet.time_base = Fraction(1, context.sample_rate)


def _codec(stream: av.stream.Stream) -> str:
    return stream.codec_context.name if stream.codec_context else "of a codec unknown to FFmpeg"


def _stamp(packet: av.Packet) -> int | None:
    return packet.pts if packet.pts is not None else packet.dts


def _is_hidden(packet: av.Packet) -> bool:
    """Whether an edit list keeps it from whoever plays the file, and no decoder needs it either."""
    return packet.is_discard and not -WARM_UP <= _begin(packet) < 0


def _begin(packet: av.Packet) -> Fraction:
    """Seconds."""
    return _stamp(packet) * packet.time_base
