"""Opening a video file with FFmpeg (PyAV), with what a training set must refuse kept out."""

import os
import stat
from collections.abc import Iterator

import av

from dcvc.errors import MissingError, ReadError
from dcvc.video.places import plain, read_by_ffmpeg
from dcvc.video.remote_file import ReadForFFmpeg
from dcvc.video.sources import open_file

# Formats that hold one video in one file. Playlists (hls, concat) are kept out since they could
# open any other file of the machine, and text art since every text would be a video.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,yuv4mpegpipe,ivf,asf,mxf,nut,"
    "gif,apng,h264,hevc,m4v,mpegvideo,obu,av1,vvc,mjpeg,dv,wtv,rm,gxf,live_flv"
)
# An open file and its video stream.
OpenStream = tuple[av.container.InputContainer, av.video.stream.VideoStream]


def file_url(path: str | os.PathLike) -> str:
    """The path as FFmpeg takes it for a file whatever its name: "a:b.mp4" alone would be protocol a.
    """
    return f"file:{os.fspath(path)}"


def open_container(path: str) -> av.container.InputContainer:
    """Open `path` for reading. Raises MissingError or ReadError with FFmpeg's reason."""
    # FFmpeg could open addresses by itself, but knows no cache and little patience, and would take
    # a connection that ends for the end of the file.
    if not read_by_ffmpeg(path):
        return _opened(path, ReadForFFmpeg(open_file(path)), {})
    path = plain(path)
    try:
        # FFmpeg would wait for ever for what comes out of a pipe or a device.
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file") from None
    except OSError as error:
        raise ReadError(f"{path}: cannot open ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        raise ReadError(f"{path}: cannot open (a folder or device, needed a video file)")
    return _opened(path, file_url(path), {"protocol_whitelist": "file"})


def _opened(path: str, source: str | ReadForFFmpeg,
            options: dict[str, str]) -> av.container.InputContainer:
    try:
        return av.open(source, metadata_errors="replace",
                       container_options={**options, "format_whitelist": FORMATS})
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise ReadError(f"{path}: cannot open ({reason(error)})") from None


def video_stream(container: av.container.InputContainer, path: str) -> av.video.stream.VideoStream:
    """The first video stream that is no cover picture; every other stream is discarded by the
    demuxer."""
    chosen = None
    for stream in container.streams:
        pictures = stream.disposition & (
            av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        )
        if chosen is None and stream.type == "video" and not pictures:
            chosen = stream
        else:
            stream.discard = av.stream.Discard.all
    if chosen is None:
        kinds = ", ".join(stream.type or "unknown" for stream in container.streams) or "nothing"
        raise ReadError(f"{path}: cannot decode (found {kinds}, needed a video stream)")
    if chosen.codec_context is None:
        raise ReadError(f"{path}: cannot decode (FFmpeg has no decoder for this stream)")
    return chosen


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, in one line."""
    return str(getattr(error, "strerror", None) or error).replace("\n", " ")


def open_decoder(path: str, threads: int = 1) -> OpenStream:
    """Open a file whose stream's codec_context decodes with so many threads.

    Raises MissingError, ReadError.
    """
    container = open_container(path)
    stream = video_stream(container, path)
    context = stream.codec_context
    context.thread_count = threads
    context.thread_type = "AUTO" if threads != 1 else "NONE"
    context.options = decoder_options(context.name)
    return container, stream


def decoder_options(codec: str) -> dict[str, str]:
    """The options with which FFmpeg's decoder of this codec hides nothing that it can tell."""
    # H.264: in streams that do not say how many frames are reordered, FFmpeg guesses and drops
    # frames until the guess is right. With "strict" it waits as long as the standard allows.
    if codec == "h264":
        return {"strict": "1"}
    # HEVC and the MPEG-4 family conceal some errors without flagging the frame, unless told to
    # report them. The other decoders flag their frames by themselves.
    reports_on_demand = codec == "hevc" or codec.startswith(("mpeg4", "msmpeg4", "h263"))
    return {"err_detect": "explode"} if reports_on_demand else {}


def whole_packets(opened: OpenStream) -> Iterator[av.Packet]:
    """Packets with something in them, up to the end or to where the file cannot be read further."""
    container, stream = opened
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        # The stream ends here; who counts its frames says in which one.
        return


def declares_more(path: str, size: int) -> bool:
    """Whether the container itself says that the file should have more than `size` bytes."""
    with open_file(path) as file:
        head = file.read(4096)
        file.seek(max(0, size - 188))
        tail = file.read(188)
    # A transport stream is made of packets of 188 bytes, each beginning with 0x47. What does not
    # begin so at its end is no part of one.
    if head[:1] == b"\x47" and len(head) > 188 and head[188] == 0x47:
        return size % 188 != 0 and tail[-(size % 188)] == 0x47
    # Matroska: a header, then one element (Segment) with everything else. Its length is a number
    # whose first byte tells by its leading zeros how many bytes it has; all ones stand for
    # "unknown".
    position = head.find(b"\x18\x53\x80\x67")
    if head[:4] == b"\x1a\x45\xdf\xa3" and position > 0:
        begin = position + 4
        length = 9 - head[begin].bit_length()
        largest = (1 << 7 * length) - 1
        value = int.from_bytes(head[begin: begin + length], "big") & largest
        return value != largest and begin + length + value > size
    return False
