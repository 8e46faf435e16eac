"""Show what a file holds: header, frames and rate over time of a dcvc stream, or what a checkpoint was
made of and what each part of its codecs costs."""

import argparse
import dataclasses
import json
import os
import sys

from dcvc.codec.bitstream import MAGIC, FrameRecord, StreamHeader
from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import add_model, codec_from, open_stream
from dcvc.commands.rates import bits_per_second
from dcvc.errors import DcvcError, ReadError, UnfinishedError
from dcvc.evaluation.frame_sums import FrameSums
from dcvc.inter.registry import codec_name
from dcvc.intra.registry import i_frame_name
from dcvc.models.catalog import find_model
from dcvc.report.rate_history import by_second, mean_rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE",
                        help="a stream (.dcvc, or .mkv of dcvc mux), a checkpoint file, a run folder "
                             "or the name of a model")
    add_flag(parser, "json", False, "print JSON")
    add_model(parser, meaning="bits are not told apart by term")
    add_device(parser)
    parser.add_argument("--bitrate", metavar="RATE",
                        help="of the channel whose buffer is shown for a stream: 500k, 1.5M (default: "
                             "the stream's mean)")
    parser.add_argument("--write_config", metavar="JSON",
                        help="write the configuration that can be told from a VQGAN's file")
    parser.add_argument("--rvq_levels", type=int, metavar="D",
                        help="depth of a VQGAN's residual codebook, where its file does not tell "
                             "it (1: not residual)")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.matroska import MATROSKA

    try:
        with open(options.file, "rb") as file:
            stream = file.read(len(MAGIC)) in (MAGIC, MATROSKA)
    except IsADirectoryError:
        stream = False
    except FileNotFoundError:
        # The name of a model, or of nothing.
        options.file, stream = str(find_model(options.file)), False
    except OSError as error:
        raise ReadError(f"{options.file}: cannot be read ({error.strerror})") from None
    if stream:
        return _stream(options)
    return _vqgan(options) if _is_vqgan(options.file) else _checkpoint(options)


def _is_vqgan(path: str) -> bool:
    from dcvc.intra.vqgan.describe import is_vqgan

    try:
        return is_vqgan(path)
    except DcvcError:
        # Of a folder it says nothing: a run may hold files that it does not need.
        if os.path.isfile(path):
            raise
        return False


def _vqgan(options: argparse.Namespace) -> int:
    from dcvc.intra.vqgan.describe import describe_vqgan, write_config

    facts = describe_vqgan(options.file, options.rvq_levels, options.vqgan_config)
    codecs = {} if facts["undecided"] else {"I": _vqgan_codec(options.file, facts["config"])}
    parts = _parts(codecs)
    if options.json:
        print(json.dumps({**facts, **_plain(parts)}))
    else:
        for name, value in facts.items():
            if name != "config" and value is not None:
                print(f"{name:<12}{', '.join(value) if isinstance(value, list) else value}")
        _print_parts(parts)
    if options.write_config:
        write_config(options.file, options.write_config, options.rvq_levels, options.vqgan_config)
    return 0


def _stream(options: argparse.Namespace) -> int:
    rate = bits_per_second(options.bitrate) if options.bitrate else None
    with open_stream(options.file) as reader:
        header, pixels = _header(reader.header), reader.header.width * reader.header.height
        fps, failure = float(reader.header.fps), None
        frames, records = [], ((record, {}) for record in reader)
        if options.model:
            codec = codec_from(options)
            records = ((frame.record, frame.bits)
                       for frame in codec.decode_records(reader, measure=True))
        try:
            for record, bits in records:
                frames.append(_frame(record) | ({"terms": bits} if options.model else {}))
        except UnfinishedError as error:
            # What came before is whole and may be looked at.
            failure = error
    groups = {name: _sums([frame for frame in frames if frame["type"] == name], pixels)
              for name in ("I", "P")}
    history = _history(frames, fps, rate)
    if options.json:
        print(json.dumps({"header": header, "terms": groups, "frames": frames, **history}))
    else:
        _print_stream(header, frames, groups, history)
    if failure is not None:
        raise failure
    return 0


def _frame(record: FrameRecord) -> dict:
    """What a record says of its frame."""
    return {"frame": record.number, "type": record.name, "payload_bits": 8 * len(record.payload),
            "container_bits": 8 * record.overhead, "crc": record.reconstruction_crc,
            "hidden": record.hidden, **(_head(record) if record.head else {})}


def _history(frames: list[dict], fps: float, rate: float | None) -> dict:
    """The rate over time: "channel", bits per second, and "seconds". What a hidden frame takes counts
    for the next shown one; it has no time of its own."""
    bits, qualities, hidden = [], [], 0
    for frame in frames:
        hidden += frame["payload_bits"] + frame["container_bits"]
        if not frame["hidden"]:
            bits.append(hidden)
            qualities.append(frame.get("quality"))
            hidden = 0
    channel = rate or mean_rate(bits, fps)
    seconds = [{"second": second.number, "frames": second.frames, "bits": second.bits,
                "quality": second.qualities and dict(zip(("min", "mean", "max"), second.qualities,
                                                         strict=True)),
                "buffer_bits": second.waiting, "buffer_seconds": second.waiting / channel}
               for second in by_second(bits, qualities, fps, channel)]
    return {"channel": channel, "seconds": seconds}


def _head(record: FrameRecord) -> dict:
    """What frames of codecs with many rates say themselves."""
    return {"quality": record.head.quality, "refresh": record.head.refresh}


def _header(header: StreamHeader) -> dict:
    """Its fields as they are shown: codecs by name, hashes as hexadecimal digits."""
    fields = {key: value.hex() if isinstance(value, bytes) else value
              for key, value in dataclasses.asdict(header).items()}
    return {**fields, "intra": i_frame_name(header.intra), "inter": codec_name(header.inter),
            "fps": str(header.fps), "tables_crc": f"{header.tables_crc:08x}"}


def _sums(frames: list[dict], pixels: int) -> dict:
    """Sums over the frames of one type; `bits` by term where the model was given."""
    payload, container = (sum(frame[name] for frame in frames)
                          for name in ("payload_bits", "container_bits"))
    bits = FrameSums()
    for frame in frames:
        bits.add(frame.get("terms", {}))
    return {"frames": len(frames), "payload_bits": payload, "container_bits": container,
            "bpp": (payload + container) / (len(frames) * pixels) if frames else 0.0,
            "bits": bits.total}


def _print_stream(header: dict, frames: list[dict], groups: dict, history: dict) -> None:
    print("\n".join(f"{key:<20}{value}" for key, value in header.items()))
    terms = list(dict.fromkeys(term for frame in frames for term in frame.get("terms", {})))
    heads = f"{'frame':>6} type quality {'payload':>10} {'container':>10} {'crc':>8}"
    print("\nbits of each frame\n" + heads + "".join(f" {term:>10}" for term in terms))
    for frame in frames:
        crc = "" if frame["crc"] is None else f"{frame['crc']:08x}"
        parts = "".join(f" {frame['terms'].get(term, 0):>10.0f}" for term in terms)
        # R: a refresh.
        quality = f"{frame['quality']:g}{'R' * frame['refresh']}" if "quality" in frame else "-"
        print(f"{frame['frame']:>6} {frame['type']:>4} {quality:>7} {frame['payload_bits']:>10} "
              f"{frame['container_bits']:>10} {crc:>8}{parts}{'  hidden' * frame['hidden']}")
    _print_history(history)
    print()
    for name, group in groups.items():
        split = "".join(f", {term} {value:.0f}" for term, value in group["bits"].items())
        print(f"{name}: {group['frames']} frames, {group['payload_bits']} bits of payload, "
              f"{group['container_bits']} of the container, {group['bpp']:.4f} bpp{split}")
    if not terms:
        print("(give --model to see how many bits of a P-frame each term takes: a frame's terms "
              "are coded together, and can only be told apart by decoding it)")


def _print_history(history: dict) -> None:
    print(f"\nrate over time; buffer: the most that waits for a channel of "
          f"{history['channel'] / 1000:.1f} kbit/s\n"
          f"{'second':>6} {'frames':>6} {'bits':>10} {'quality: min':>12} {'mean':>6} {'max':>6} "
          f"{'buffer':>10} {'in s':>6}")
    for second in history["seconds"]:
        quality = second["quality"]
        told = ("".join(f" {quality[name]:>{width}.2f}" for name, width in
                        (("min", 12), ("mean", 6), ("max", 6))) if quality
                else f" {'-':>12} {'-':>6} {'-':>6}")
        print(f"{second['second']:>6} {second['frames']:>6} {second['bits']:>10.0f}{told} "
              f"{second['buffer_bits']:>10.0f} {second['buffer_seconds']:>6.2f}")


def _checkpoint(options: argparse.Namespace) -> int:
    from dcvc.checkpoint import load_i_frame, load_p_frame_checkpoint
    from dcvc.config import to_dict

    i_frame = load_i_frame(options.file, alone=True)
    if i_frame is not None:
        content, codecs = {"path": options.file, "intra": to_dict(i_frame.config)}, {"I": i_frame}
    else:
        checkpoint = load_p_frame_checkpoint(options.file)
        content = {"path": str(checkpoint.path), "inter": to_dict(checkpoint.model.config),
                   "intra": to_dict(checkpoint.intra) if checkpoint.intra else None,
                   "progress": checkpoint.progress,
                   "parameters": sum(p.numel() for p in checkpoint.model.parameters())}
        codecs = {"P": checkpoint.model, "I": checkpoint.i_frame or _named_i_frame(checkpoint)}
    parts = _parts(codecs)
    if options.json:
        print(json.dumps({**content, **_plain(parts)}, default=str))
    else:
        for key, value in content.items():
            print(f"{key:<12}{value}")
        _print_parts(parts)
    return 0


def _named_i_frame(checkpoint):
    """The I-frame codec that a checkpoint names, as far as its cost goes; None where its files are
    not there."""
    from dcvc.intra.registry import build_intra_codec

    if checkpoint.intra is None:
        return None
    try:
        # Random weights cost what published ones do, and need no download.
        return build_intra_codec(dataclasses.replace(checkpoint.intra, pretrained=False))
    except DcvcError as error:
        print(f"note: the I-frame codec is not counted ({error})", file=sys.stderr)
        return None


def _vqgan_codec(path: str, values: dict):
    from dcvc.intra.vqgan.codec import VQGANIFrameModel
    from dcvc.intra.vqgan.config import config_from_values

    try:
        return VQGANIFrameModel(config_from_values(values, path), path)
    except DcvcError as error:
        # It was described all the same: what cannot code may still be looked at.
        print(f"note: not counted ({error})", file=sys.stderr)
        return None


def _parts(codecs: dict) -> dict:
    """{"P" or "I": the parts of that codec (dcvc.bench.macs)}"""
    from dcvc.bench.macs import i_frame_parts, p_frame_parts

    return {kind: (p_frame_parts if kind == "P" else i_frame_parts)(codec)
            for kind, codec in codecs.items() if codec is not None}


def _plain(parts: dict) -> dict:
    return {"parts": {kind: [dataclasses.asdict(part) for part in of_codec]
                      for kind, of_codec in parts.items()}}


def _print_parts(parts: dict) -> None:
    from dcvc.bench.macs import total

    for kind, of_codec in parts.items():
        print(f"\n{f'{kind}-frames':<28}{'parameters':>12} {'kMAC a pixel: encoder':>22} "
              f"{'decoder':>9}")
        for part in (*of_codec, total(of_codec)):
            print(f"{part.name:<28}{part.parameters:>12,} {part.encoder:>22,.1f} "
                  f"{part.decoder:>9,.1f}")
