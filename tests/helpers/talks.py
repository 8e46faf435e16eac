"""Tiny talks: a moving picture with a sine tone, in containers and sound codecs of every kind; and their packets."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from sample_videos import textures

BT2020_PQ = (9, 16, 9, 1)      # primaries, transfer, matrix, range


def make_talk(path: Path, *, count=10, size=(64, 48), rate=Fraction(25), sounds: Sequence[str] = ("aac",),
              aspect=Fraction(1), colours=None, rotate=0, stamps: Sequence[int] | None = None, chapters=(),
              sound_rate=48000, seconds: float | None = None, start=0) -> Path:
    """stamps: times of the frames in milliseconds, where not even; seconds: of sound, as long as the pictures if None;
    start: seconds that are added to all times. The second, third … sound is a tone higher than the one before it."""
    with av.open(str(path), "w", options={"output_ts_offset": str(start)}) as out:
        video = out.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt, video.thread_count = *size, "yuv420p", 1
        video.options = {"preset": "ultrafast", "crf": "30"}
        context = video.codec_context
        context.sample_aspect_ratio = aspect
        context.time_base = Fraction(1, 1000) if stamps is not None else 1 / rate
        if colours:
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = colours
        if rotate:
            video.set_display_rotation(rotate)
        tracks = [_add_sound(out, codec, sound_rate, f"tone {number}") for number, codec in enumerate(sounds)]
        if chapters:
            out.set_chapters([{"id": n, "start": int(1000 * begin), "end": int(1000 * end), "time_base":
                               Fraction(1, 1000), "metadata": {"title": f"part {n}"}}
                              for n, (begin, end) in enumerate(chapters)])
        for number, picture in enumerate(textures(count, size[1], size[0])):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p", threads=1)
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = context.time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        length = seconds if seconds is not None else float(count / rate)
        for number, track in enumerate(tracks):
            for frame in _tone(440 * 2 ** (number / 6), length, sound_rate, track):
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return path


def _add_sound(out, codec: str, rate: int, title: str):
    track = out.add_stream(codec, rate=rate)
    track.codec_context.layout = "mono"
    track.metadata.update(title=title, language="eng")
    return track


def _tone(hertz: float, seconds: float, rate: int, track):
    time = np.arange(round(rate * seconds)) / rate
    samples = (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)[None]
    resampler = av.AudioResampler(track.format, "mono", rate)
    for begin in range(0, samples.shape[1], 1000):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, begin:begin + 1000]), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        yield from resampler.resample(frame)


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """(seconds, bytes) of every packet of one track, in the order of the file."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[number]
        return [((packet.dts if packet.pts is None else packet.pts) * packet.time_base, bytes(packet))
                for packet in container.demux(stream) if packet.size]


def picture_times(path: Path) -> list[Fraction]:
    """When each picture is shown, seconds."""
    return sorted(time for time, _ in packets(path, "video"))
