"""Which frames come out when a file is decoded, by their times: for files whose packets do not tell.

Slow, so it is asked only where something points to it: fields that are pictures of their own, a last
packet that is too small to be a frame, new parameters on the way.
"""

from collections.abc import Iterator
from itertools import chain, islice

import av
import numpy as np

from dcvc.video.container import OpenStream, open_decoder, whole_packets


def shown_times(path: str, packets: int | None) -> list[int]:
    """Times of the frames that so many packets give (None: all), in the order they come out in.

    Errors end nothing: of a damaged frame there is no time here."""
    opened = open_decoder(path)
    with opened[0]:
        return [frame.pts for frame in _good_frames(opened, packets) if frame.pts is not None]


def without_undecodable_end(path: str, pts: np.ndarray, key_time: int) -> np.ndarray:
    """The frames' times without those at the end that decoding from the last keyframe does not give:
    some writers leave an empty packet behind the last frame, or rubbish."""
    opened = open_decoder(path)
    with opened[0]:
        try:
            opened[0].seek(key_time, stream=opened[1], backward=True)
        except av.error.FFmpegError:
            return pts
        shown = {frame.pts for frame in _good_frames(opened, None)}
    if key_time not in shown:
        # Seeking led elsewhere, as in files without an index of their own.
        shown = set(shown_times(path, None))
    end = len(pts)
    while end and pts[end - 1] > key_time and int(pts[end - 1]) not in shown:
        end -= 1
    # Where nothing came out, something else is wrong, which reading will tell.
    return pts[:end] if shown else pts


def size_from(codec: str, packet: av.Packet) -> tuple[int, int] | None:
    """(width, height) of the picture that a packet gives which brings new parameters of its codec
    along; None where it gives none."""
    decoder = av.CodecContext.create(codec, "r")
    decoder.extradata = bytes(packet.get_sidedata("new_extradata"))
    try:
        frames = [*decoder.decode(packet), *decoder.decode(None)]
    except av.error.FFmpegError:
        return None
    return (frames[0].width, frames[0].height) if frames else None


def _good_frames(opened: OpenStream, packets: int | None) -> Iterator[av.VideoFrame]:
    stream = opened[1]
    # None drains the decoder.
    for packet in chain(islice(whole_packets(opened), packets), [None]):
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            continue
        yield from (frame for frame in frames if not frame.is_corrupt)
