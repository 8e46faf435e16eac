"""Show what a file holds: header and frame table of a dcvc stream, or configuration and progress of a checkpoint."""

import argparse
import dataclasses
import json
import os

from dcvc.bitstream import MAGIC
from dcvc.commands.codec_options import open_stream
from dcvc.errors import MissingError, ReadError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a stream (.dcvc), a checkpoint file or a run folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write_config", metavar="JSON", help="write the configuration that a VQGAN's file tells")
    parser.add_argument("--rvq_levels", type=int, metavar="D",
                        help="depth of a VQGAN's residual codebook where its file does not tell it (1: not residual)")


def run(options: argparse.Namespace) -> int | None:
    try:
        with open(options.file, "rb") as file:
            stream = file.read(len(MAGIC)) == MAGIC
    except IsADirectoryError:
        stream = False
    except FileNotFoundError:
        raise MissingError(f"{options.file}: no such file") from None
    except OSError as error:
        raise ReadError(f"{options.file}: cannot be read ({error.strerror})") from None
    if stream:
        return _stream(options)
    return _vqgan(options) if _is_vqgan(options.file) else _checkpoint(options)


def _is_vqgan(path: str) -> bool:
    from dcvc.intra.vqgan.describe import is_vqgan

    return os.path.isfile(path) and is_vqgan(path)


def _vqgan(options: argparse.Namespace) -> int:
    from dcvc.intra.vqgan.describe import describe_vqgan, write_config

    facts = describe_vqgan(options.file, options.rvq_levels)
    if options.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            if name != "config" and value is not None:
                print(f"{name:<12}{', '.join(value) if isinstance(value, list) else value}")
    if options.write_config:
        write_config(options.file, options.write_config, options.rvq_levels)
    return 0


def _stream(options: argparse.Namespace) -> int:
    with open_stream(options.file) as reader:
        header = {key: value.hex() if isinstance(value, bytes) else value
                  for key, value in dataclasses.asdict(reader.header).items()}
        header["fps"], header["tables_crc"] = str(header["fps"]), f"{header['tables_crc']:08x}"
        frames, sums = [], {"I": [0, 0, 0], "P": [0, 0, 0]}
        for record in reader:
            frames.append({"frame": record.number, "type": record.name, "payload_bits": 8 * len(record.payload),
                           "container_bits": 8 * record.overhead, "crc": record.reconstruction_crc})
            for place, value in enumerate((1, len(record.payload), record.overhead)):
                sums[record.name][place] += value
    pixels = reader.header.width * reader.header.height
    terms = {name: {"frames": count, "payload_bits": 8 * payload, "container_bits": 8 * overhead,
                    "bpp": 8 * (payload + overhead) / (count * pixels) if count else 0.0}
             for name, (count, payload, overhead) in sums.items()}
    if options.json:
        print(json.dumps({"header": header, "terms": terms, "frames": frames}))
        return 0
    print("\n".join(f"{key:<20}{value}" for key, value in header.items()))
    print(f"\n{'frame':>6} type {'payload':>10} {'container':>10}  crc")
    for frame in frames:
        crc = "" if frame["crc"] is None else f"{frame['crc']:08x}"
        bits = f"{frame['payload_bits']:>10} {frame['container_bits']:>10}"
        print(f"{frame['frame']:>6} {frame['type']:>4} {bits}  {crc}")
    print("(bits)")
    for name, term in terms.items():
        print(f"{name}: {term['frames']} frames, {term['payload_bits']} bits of payload, "
              f"{term['container_bits']} of the container, {term['bpp']:.4f} bpp")
    return 0


def _checkpoint(options: argparse.Namespace) -> int:
    from dcvc.checkpoint import load_p_frame_checkpoint
    from dcvc.config import to_dict

    checkpoint = load_p_frame_checkpoint(options.file)
    content = {"path": str(checkpoint.path), "inter": to_dict(checkpoint.model.config),
               "intra": to_dict(checkpoint.intra) if checkpoint.intra else None, "progress": checkpoint.progress,
               "parameters": sum(p.numel() for p in checkpoint.model.parameters())}
    if options.json:
        print(json.dumps(content, default=str))
    else:
        for key, value in content.items():
            print(f"{key:<12}{value}")
    return 0
