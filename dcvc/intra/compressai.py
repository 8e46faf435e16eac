"""I-frames by CompressAI's model zoo, imported only when asked for.

    frame, padded to a multiple of 64 -> analysis -> y -> rounded, coded -> synthesis -> x_hat
                                                     |
                                                     side information z, coded: how y is distributed

One payload holds one frame. All numbers are little-endian:

    4 bytes   CRC-32 of everything that follows
    4 bytes   the model's checksum (names and values of its weights) and that of its tables, exclusive or
    8 bytes   height and width of the frame, height and width of z (of y where there is no z)
    1 byte    0
    the rest  the symbols, see zoo_symbols.py: every machine reads the same

Models of many rates ("vbr"), and all payloads written before, hold what CompressAI's `compress` gives,
which other instructions may read as noise:

    4, 4, 8 bytes   as above; the checksum is that of the weights and of CompressAI's tables
    1 byte          how many strings follow: 2 (y and z), or 1 for a model without z
    each            4 bytes length, then the coded string

CompressAI declares torchvision and more, which a plain installation of this kit does not have. The
zoo alone needs none of it: where the full import fails, empty stand-ins take the place of the data
sets and image transforms. A complete installation is used as it is.
"""

import importlib
import re
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcvc.config import nearest
from dcvc.errors import BitstreamError, InputError, MissingError, ReadError
from dcvc.interfaces import FrozenCodec, IntraOutput, Quality, check_frames, check_quality
from dcvc.intra.zoo_symbols import ZooSymbols, has_exact_symbols, without_tables
from dcvc.layers import crop, pad_to_multiple
from dcvc.weights import (
    Misfit,
    bare_weights,
    check_entries,
    check_finite,
    entries_checksum,
    read_checkpoint,
    weights_checksum,
)

# Behind the payload's own CRC: model's checksum, the four sizes, number of strings.
HEADER = struct.Struct("<IHHHHB")
LARGEST_SIDE = 0xFFFF
# In place of the number of strings: symbols that integers alone decide.
EXACT_SYMBOLS = 0
# Every model of the zoo can code frames whose sides are multiples of this.
ZOO_MULTIPLE = 64
# Entries that CompressAI knows by several names and in several sizes.
FREE_ENTRIES = re.compile(r"(^|\.)(entropy_bottleneck|gaussian_conditional)\w*\.")


def _stand_ins() -> dict[str, types.ModuleType]:
    # The registry's decorators are all that the zoo's modules take from the transforms.
    transforms = types.ModuleType("compressai.registry.transforms")
    transforms.TRANSFORMS = {}
    transforms.register_transform = lambda name: lambda cls: cls
    names = ("compressai.datasets", "compressai.transforms")
    modules = {name: types.ModuleType(name) for name in names}
    return modules | {transforms.__name__: transforms}


def import_zoo() -> dict[str, object]:
    """CompressAI's table of image models: name -> constructor.

    Raises MissingError with the commands to install it, ReadError where it cannot be imported.
    """
    # In two steps: what CompressAI itself asks for would replace NumPy, and bring much besides.
    hint = ("pip install 'dcvc[zoo]' and pip install --no-deps compressai==1.2.8 bring it; "
            "--i_frame_type light needs neither")
    if importlib.util.find_spec("compressai") is None:
        raise MissingError(f"compressai: not installed, needed for I-frames of CompressAI's zoo; {hint}")
    with warnings.catch_warnings():
        # Deprecated names inside CompressAI, of which its users can change nothing.
        warnings.simplefilter("ignore")
        try:
            if importlib.util.find_spec("torchvision") is not None:
                return dict(importlib.import_module("compressai.zoo").image_models)
        except (ImportError, RuntimeError):
            # A torchvision built for another torch. What is half imported would stay so.
            for name in [name for name in sys.modules if name.split(".")[0] == "compressai"]:
                del sys.modules[name]
        for name, module in _stand_ins().items():
            sys.modules.setdefault(name, module)
        try:
            return dict(importlib.import_module("compressai.zoo").image_models)
        except ImportError as error:
            raise ReadError(f"compressai: cannot be imported ({error}); {hint}") from None


def _load_weights(constructor: type, name: str, checkpoint: str,
                  choice: str | None) -> nn.Module:
    """The model with a file's weights; its widths are those of the file, whatever the quality."""
    path = Path(checkpoint)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; give the weights of {name} "
                           "(--i_frame_checkpoint)")
    state = bare_weights(read_checkpoint(path), str(path), name, choice)
    check_finite(state, str(path))

    def describe(problem: Misfit | str) -> str:
        return (f"does not fit {name}: {problem}; check --i_frame_model_name and "
                "--i_frame_checkpoint")

    try:
        return constructor.from_state_dict(state)
    except KeyError as error:
        problem = f"entry {error.args[0]} is missing"
    except (RuntimeError, ValueError, IndexError) as error:
        problem = " ".join(str(error).split())
        # The same model without its weights says which entries it needs.
        empty = type(constructor.__name__, (constructor,), {"load_state_dict": lambda *_: None})
        found, needed = ({key: value for key, value in entries.items()
                          if not FREE_ENTRIES.search(key)}
                         for entries in (state, empty.from_state_dict(state).state_dict()))
        check_entries(found, needed, str(path), describe)
    raise InputError(f"{path}: {describe(problem)}")


class CompressAIIFrameModel(FrozenCodec):
    """A model of CompressAI's zoo as an I-frame codec.

    name: zoo name ("bmshj2018-hyperprior", "cheng2020-anchor", ...); quality: 1..8 (1..6 for
    cheng2020). pretrained: download CompressAI's weights (MSE); checkpoint: a local file of weights
    instead. Without both the weights are random (torch's generator), which serves tests only.
    Raises InputError, MissingError, ReadError with one line that names the option or the file, or the
    layer whose weights are too large for exact symbols.

    `forward` gives CompressAI's estimate. With mbt2018 and cheng2020, CompressAI's forward rounds
    the latent without its mean and its coder with it, so the reconstruction of `compress` differs
    slightly from that of `forward`.
    """

    name = "compressai"
    stream_id = 1

    def __init__(self, name: str, quality: int, pretrained: bool = True,
                 checkpoint: str | None = None, weights: str | None = None) -> None:
        super().__init__()
        zoo = import_zoo()
        if name not in zoo:
            raise InputError(f"--i_frame_model_name: found '{name}', needed one of {', '.join(zoo)}"
                             f"{nearest(name, zoo)}")
        self.model_name, self.quality = name, quality
        # Made even where a file replaces it: only the zoo's function knows the model's class.
        try:
            model = zoo[name](quality=quality, metric="mse", progress=False,
                              pretrained=pretrained and not checkpoint)
        except ValueError as error:
            raise InputError(f"--i_frame_quality: found {quality} for {name}; {error}") from None
        except OSError as error:
            raise ReadError(f"{name}: CompressAI's weights could not be downloaded ({error}); use "
                            "--i_frame_checkpoint FILE or --no-i_frame_pretrained") from None
        self.model = (_load_weights(type(model), name, checkpoint, weights) if checkpoint
                      else model)
        self.multiple = max(ZOO_MULTIPLE,
                            getattr(self.model, "downsampling_factor", ZOO_MULTIPLE))
        self.freeze()
        # Tables of the entropy coder: made here, so that all files of the same weights agree.
        self.model.update(force=True)
        # What payloads of CompressAI's coder name the model by.
        self.zoo_id = weights_checksum(self.model)
        self.symbols_exact = has_exact_symbols(self.model)
        self.symbols = ZooSymbols(self.model)
        self.model_id = self.zoo_id
        if self.symbols_exact:
            self.model_id = entries_checksum(without_tables(self.model.state_dict())) ^ self.symbols.tables_crc

    @torch.no_grad()
    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """x: float RGB `(B, 3, H, W)` in [0, 1], any size -> reconstruction, estimated bits."""
        check_quality("this I-frame codec", self.rates, quality)
        check_frames(x)
        # In half precision the likelihoods, and with them the estimate, would be other ones.
        with torch.autocast(x.device.type, enabled=False):
            out = self.model(pad_to_multiple(x.float(), self.multiple))
        bits = sum(-torch.log2(values.double()).sum() for values in out["likelihoods"].values())
        x_hat = crop(out["x_hat"], *x.shape[-2:]).clamp(0, 1)
        return IntraOutput(x_hat, {"i": bits.float()}, likelihoods=out["likelihoods"])

    @torch.no_grad()
    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """One frame `(1, 3, H, W)` -> payload and the reconstruction that `decompress` gives."""
        check_quality("this I-frame codec", self.rates, quality)
        check_frames(x, single=True)
        height, width = x.shape[-2:]
        if max(height, width) > LARGEST_SIDE:
            raise InputError(f"frame: found {width}x{height}, needed sides of at most "
                             f"{LARGEST_SIDE}")
        padded = pad_to_multiple(x.float(), self.multiple)
        if self.symbols_exact:
            coded, y_hat, latent = self.symbols.encode(padded)
            body = HEADER.pack(self.model_id, height, width, *latent, EXACT_SYMBOLS) + coded
            return _with_crc(body), self._shown(self.model.g_s(y_hat), height, width)
        out = self.model.compress(padded)
        strings = [string[0] for string in out["strings"]]
        body = HEADER.pack(self.model_id, height, width, *out["shape"], len(strings))
        for string in strings:
            body += struct.pack("<I", len(string)) + string
        payload = _with_crc(body)
        # What the decoder will show: `out` holds strings alone.
        return payload, self.decompress(payload)

    @torch.no_grad()
    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction `(1, 3, H, W)` in [0, 1]; raises BitstreamError on damage."""
        # CompressAI's decoder makes noise or worse of damaged bytes: nothing reaches it unchecked.
        body = payload[4:]
        if len(body) < HEADER.size or struct.unpack("<I", payload[:4])[0] != zlib.crc32(body):
            raise BitstreamError(f"I-frame of {len(payload)} bytes: checksum differs, damaged or "
                                 "cut short")
        # The CRC holds: from here on lengths are as they were written.
        model_id, *sizes, count = HEADER.unpack_from(body)
        (height, width), latent = sizes[:2], tuple(sizes[2:])
        exact = count == EXACT_SYMBOLS
        needed = self.model_id if exact else self.zoo_id
        if model_id != needed:
            raise BitstreamError(f"I-frame: made with model {model_id:08x}, this one is "
                                 f"{needed:08x} ({self.model_name}); decode with the "
                                 "weights it was encoded with")
        padded = [side + -side % self.multiple for side in (height, width)]
        # The latent has the shape of the padded frame, smaller by the same factor both ways.
        if count not in (EXACT_SYMBOLS, self._expected_strings()) or padded[0] * latent[1] != padded[1] * latent[0]:
            raise BitstreamError(f"I-frame: made with another model than {self.model_name} (found "
                                 f"{count} strings, latent {latent[1]}x{latent[0]} for "
                                 f"{width}x{height})")
        if exact:
            return self._shown(self.model.g_s(self.symbols.decode(body[HEADER.size:], latent)), height, width)
        strings, position = [], HEADER.size
        for _ in range(count):
            (length,) = struct.unpack_from("<I", body, position)
            strings.append([body[position + 4:position + 4 + length]])
            position += 4 + length
        return self._shown(self.model.decompress(strings, latent)["x_hat"], height, width)

    @staticmethod
    def _shown(x_hat: Tensor, height: int, width: int) -> Tensor:
        return crop(x_hat, height, width).clamp(0, 1)

    def stream_weights(self) -> list[dict[str, Tensor]]:
        """What new streams name this codec by, then what streams of before do: CompressAI's tables are
        not the same with all instructions."""
        entries = self.state_dict()
        return [without_tables(entries), entries] if self.symbols_exact else [entries]

    def _expected_strings(self) -> int:
        # "h_a", the analysis of y into z, is what the model without z lacks.
        return 2 if hasattr(self.model, "h_a") else 1


def _with_crc(body: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(body)) + body


def code_with_zoo_model(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """Frames `(B, 3, H, W)` in [0, 1] through a bare zoo model, padded and cropped.

    Returns the model's own dictionary.
    """
    check_frames(x)
    result = dict(model(pad_to_multiple(x, ZOO_MULTIPLE)))
    result["x_hat"] = crop(result["x_hat"], *x.shape[-2:]).clamp(0, 1)
    return result
