"""Small videos of every kind the reader promises to read exactly, made with PyAV's own encoders; and plain decoding."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dcvc.device.scheduling import scheduling_kept

X264 = {"preset": "veryfast", "crf": "23"}
OPEN = "keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=3:b-pyramid=normal"


def textures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """RGB uint8 (count, H, W, 3): two moving textures and a counter bar, every frame different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 8, width // 8 + 8, 3)).astype(np.float32)
    field = np.kron(coarse, np.ones((8, 8, 1), np.float32))
    frames = np.empty((count, height, width, 3), np.uint8)
    for t in range(count):
        view = field[t % 40: t % 40 + height, (2 * t) % 40: (2 * t) % 40 + width].copy()
        view[height // 3: height // 2, (5 * t) % width: (5 * t) % width + width // 6] = (t * 37) % 256
        frames[t] = view
    return frames


def encode(path: Path, codec: str, frames: np.ndarray, *, pix_fmt="yuv420p", options=None, pts=None, rate=25,
           mux=None, rotate=0, cut=0, offset=0, full_range=False, cover=False, p_frames=0) -> Path:
    """Write `frames` as a video. cut: shown only from this frame on (an edit list); offset: first time in frames;
    p_frames: so many at the beginning are no B-frames."""
    # SVT-AV1 would leave the process that runs the tests a real-time one.
    with (av.open(str(path), "w", options={"fflags": "+bitexact", **(mux or {})}) as out, scheduling_kept()):
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.options = options or {}
        stream.thread_count = 1
        stream.codec_context.time_base = Fraction(1, rate)
        if full_range:
            stream.codec_context.color_range = 2
        if rotate:
            stream.set_display_rotation(rotate)
        if cover:
            picture = out.add_stream("mjpeg", rate=1)
            picture.height, picture.width, picture.pix_fmt = 32, 32, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(frames[0, :32, :32], "rgb24").reformat(format="yuvj420p")
            out.mux(picture.encode(image) + picture.encode(None))
        packets = []
        for t, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt, threads=1)
            frame.pts, frame.time_base = (pts[t] if pts is not None else t), Fraction(1, rate)
            frame.pict_type = av.video.frame.PictureType.P if t < p_frames else av.video.frame.PictureType.NONE
            packets += stream.encode(frame)
        for packet in packets + stream.encode(None):
            for name in ("pts", "dts"):
                shift = Fraction(offset - cut, rate) / packet.time_base
                setattr(packet, name, getattr(packet, name) + int(shift))
            out.mux(packet)
    return path


def make_all(folder: Path) -> dict[str, tuple[Path, int]]:
    """name -> (file, frames it must have)."""
    f = textures(48, 64, 96)
    odd = textures(30, 47, 63)
    # cpu-independent: otherwise the same pictures give other bytes from run to run.
    x264 = lambda params: {**X264, "x264-params": f"{params}:cpu-independent=1"}  # noqa: E731
    closed = x264("keyint=12:min-keyint=12:scenecut=0:bframes=3")
    irregular = np.cumsum(np.random.default_rng(1).integers(1, 5, 48)).tolist()
    hevc = {"preset": "ultrafast", "x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=4:b-pyramid=1:"
            "pools=1:frame-threads=1:log-level=none"}
    vp9 = {"g": "12", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "8", "auto-alt-ref": "1"}
    interlaced = {**x264("keyint=12:bframes=2:tff=1"), "flags": "+ildct+ilme"}
    jobs = {
        "h264_closed.mp4": ("libx264", f, {"options": closed}),
        "h264_open.mp4": ("libx264", f, {"options": x264(OPEN)}),
        "h264_pyramid.mov": ("libx264", f, {"options": x264("keyint=24:bframes=7:b-pyramid=normal:open-gop=1")}),
        "h264_refresh.mp4": ("libx264", f, {"options": x264("keyint=10:intra-refresh=1:bframes=0")}),
        "h264_open.mkv": ("libx264", f, {"options": x264(OPEN)}),
        "h264_open.ts": ("libx264", f, {"options": x264(OPEN)}),
        "h264_raw.h264": ("libx264", f, {"options": x264(OPEN)}),
        "interlaced.mp4": ("libx264", f, {"options": interlaced}),
        "hevc_open.mp4": ("libx265", f, {"options": hevc}),
        "hevc_10bit.mkv": ("libx265", f, {"options": hevc, "pix_fmt": "yuv420p10le"}),
        "vp9.webm": ("libvpx-vp9", f, {"options": vp9}),
        "vp8.webm": ("libvpx", f, {"options": {**vp9, "cpu-used": "5"}}),
        "vp9_odd.webm": ("libvpx-vp9", odd, {"options": vp9}),
        "av1.mp4": ("libsvtav1", f, {"options": {"preset": "12", "g": "12", "svtav1-params": "lp=1"}}),
        "mpeg4_b.avi": ("mpeg4", f, {"options": {"g": "12", "bf": "2", "q": "4"}}),
        "mpeg2.mpg": ("mpeg2video", f, {"options": {"g": "12", "bf": "2"}}),
        "vfr.mp4": ("libx264", f, {"options": x264(OPEN), "pts": irregular, "rate": 100}),
        "edit_list.mp4": ("libx264", f, {"options": closed, "cut": 17}),
        "rotated.mp4": ("libx264", f, {"options": closed, "rotate": 90}),
        "late_start.mkv": ("libx264", f, {"options": x264(OPEN), "offset": 500}),
        "late_start.ts": ("libx264", f, {"options": x264(OPEN), "offset": 5000}),
        "fragmented.mp4": ("libx264", f, {"options": closed, "mux": {"movflags": "frag_keyframe+empty_moov"}}),
        "h264_header_first.mp4": ("libx264", f, {"options": x264(OPEN), "mux": {"movflags": "faststart"}}),
        "ffv1_422_10.mkv": ("ffv1", odd, {"options": {"g": "5"}, "pix_fmt": "yuv422p10le"}),
        "h264_444.mp4": ("libx264", odd, {"options": closed, "pix_fmt": "yuv444p"}),
        "rgb.mkv": ("ffv1", odd, {"options": {"g": "5"}, "pix_fmt": "bgr0"}),
        "gray.mkv": ("ffv1", odd, {"options": {"g": "5"}, "pix_fmt": "gray"}),
        "mjpeg.avi": ("mjpeg", f, {"pix_fmt": "yuvj420p"}),
        "cover.mp4": ("libx264", f, {"options": closed, "cover": True}),
    }
    made = {}
    for name, (codec, frames, keywords) in jobs.items():
        made[name] = encode(folder / name, codec, frames, **keywords), len(frames) - keywords.get("cut", 0)
    for name in ("decode_times.mp4", "decode_times.mkv"):
        made[name] = without_times_of_display(made["h264_closed.mp4"][0], folder / name), len(f)
    made["short_edit.mp4"] = with_a_shorter_edit(made["h264_closed.mp4"][0], folder / "short_edit.mp4", 0.8), 39
    return made


def with_a_shorter_edit(source: Path, target: Path, share: float) -> Path:
    """The same file, its edit list ending after this share of what it shows: the rest is decoded, not shown."""
    data = bytearray(source.read_bytes())
    length = data.index(b"elst") + 12
    data[length: length + 4] = int(share * int.from_bytes(data[length: length + 4], "big")).to_bytes(4, "big")
    target.write_bytes(data)
    return target


def without_times_of_display(source: Path, target: Path) -> Path:
    """The same packets, with times of decoding alone, as some programs write B-frames."""
    with av.open(str(source)) as video, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(video.streams.video[0])
        packets = [packet for packet in video.demux(video=0) if packet.size]
        for packet in packets:
            packet.pts = packet.dts = packet.dts - packets[0].dts
            packet.stream = stream
            out.mux(packet)
    return target


def without_reorder_limits(source: Path, target: Path) -> Path:
    """A transport stream of x264's, no longer saying how many frames are reordered: its decoder has to find out."""
    with av.open(str(source)) as video, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(video.streams.video[0])
        for packet in video.demux(video=0):
            if packet.size:
                units = bytes(packet).split(b"\0\0\1")
                changed = av.Packet(b"\0\0\1".join(_unlimited(u) if u[:1] and u[0] & 31 == 7 else u for u in units))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream = packet.is_keyframe, stream
                out.mux(changed)
    return target


def _unlimited(unit: bytes) -> bytes:
    """A sequence parameter set up to its bitstream_restriction_flag (H.264, E.1.1), which is set to 0. It is found from
    the end: two flags, two zeros, four numbers, all Exp-Golomb coded, and the stop bit."""
    data = unit.rstrip(b"\0").replace(b"\0\0\3", b"\0\0")
    bits = f"{int.from_bytes(data):0{8 * len(data)}b}".rstrip("0")[:-1]

    def reaches_the_end(at: int) -> bool:
        for _ in range(6):
            zeros = bits.find("1", at) - at
            at += 2 * max(0, zeros) + 1
        return at == len(bits)

    flag = next(k for k in range(len(bits) - 6, 0, -1) if bits[k: k + 4] == "1111" and reaches_the_end(k + 2))
    bits = bits[:flag] + "01"
    bits += "0" * (-len(bits) % 8)
    short = int(bits, 2).to_bytes(len(bits) // 8)
    for low in range(4):
        short = short.replace(bytes((0, 0, low)), bytes((0, 0, 3, low)))
    return short


def sequential(path: Path) -> list[av.VideoFrame]:
    """All frames of the main video stream in order, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        stream.codec_context.thread_count = 1
        frames = []
        for packet in container.demux(stream):
            frames += stream.codec_context.decode(packet if packet.size else None)
            if not packet.size:
                break
        return frames


def luma(frame: av.VideoFrame) -> np.ndarray:
    """The first plane of a planar frame, without padding."""
    plane = frame.planes[0]
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].copy()
