"""I-frames by CompressAI's model zoo, imported only when asked for.

CompressAI declares torchvision and more, which a plain installation of this kit does not have; of its packages only
the zoo is needed. Where the full import fails for that reason, empty stand-ins take the place of its data sets and
image transforms. A complete installation is used as it is.
"""

import importlib
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
from dcvc.layers import crop, pad_to_multiple
from dcvc.weights import weights_checksum

NAME, STREAM_ID = "compressai", 1
# Model's checksum, height, width, latent height, latent width, strings.
HEADER = struct.Struct("<IHHHHB")
LARGEST_SIDE = 0xFFFF
ZOO_MULTIPLE = 64                                            # sides that every model of the zoo can code


def _stand_ins() -> dict[str, types.ModuleType]:
    transforms = types.ModuleType("compressai.registry.transforms")
    transforms.TRANSFORMS = {}
    transforms.register_transform = lambda name: lambda cls: cls
    names = ("compressai.datasets", "compressai.transforms")
    return {name: types.ModuleType(name) for name in names} | {transforms.__name__: transforms}


def import_zoo() -> dict[str, object]:
    """CompressAI's table of image models: name -> constructor. Raises MissingError with the command to install it."""
    hint = "install it with: pip install --no-deps compressai==1.2.8 (or use --i_frame_type vqgan)"
    if importlib.util.find_spec("compressai") is None:
        raise MissingError(f"compressai: not installed, needed for CompressAI I-frames; {hint}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if importlib.util.find_spec("torchvision") is not None:
                return dict(importlib.import_module("compressai.zoo").image_models)
        except (ImportError, RuntimeError):                  # torchvision built for another torch
            for name in [name for name in sys.modules if name.split(".")[0] == "compressai"]:
                del sys.modules[name]
        for name, module in _stand_ins().items():
            sys.modules.setdefault(name, module)
        try:
            return dict(importlib.import_module("compressai.zoo").image_models)
        except ImportError as error:
            raise ReadError(f"compressai: cannot be imported ({error}); {hint}") from None


def _load_weights(constructor, name: str, checkpoint: str) -> nn.Module:
    path = Path(checkpoint)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; give the weights of {name} (--i_frame_checkpoint)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:                               # torch raises many kinds for a bad file
        raise ReadError(f"{path}: not readable as weights ({str(error).splitlines()[0]})") from None
    for container in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(container), dict):
            state = state[container]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no tensors, needed a state dict of {name}")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        model = constructor.from_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: does not fit {name} ({str(error).splitlines()[0]}); check --i_frame_model_name "
                         "and --i_frame_checkpoint") from None
    return model


class CompressAIIFrameModel(FrozenCodec):
    """A model of CompressAI's zoo as an I-frame codec.

    name: zoo name ("bmshj2018-hyperprior", "cheng2020-anchor", ...); quality: 1..8 (1..6 for cheng2020).
    pretrained: download CompressAI's weights (MSE); checkpoint: a local file of weights instead.
    Without both the weights are random (seeded by torch's generator), which serves tests only.

    `forward` gives CompressAI's estimate. With mbt2018 and cheng2020, CompressAI's forward rounds the latent without
    its mean and its coder with it, so the reconstruction of `compress` differs slightly from that of `forward`.
    """

    name = NAME
    stream_id = STREAM_ID

    def __init__(self, name: str, quality: int, pretrained: bool = True, checkpoint: str | None = None) -> None:
        super().__init__()
        zoo = import_zoo()
        if name not in zoo:
            raise InputError(f"--i_frame_model_name: found '{name}', needed one of {', '.join(zoo)}"
                             f"{nearest(name, zoo)}")
        self.model_name, self.quality = name, quality
        try:
            model = zoo[name](quality=quality, metric="mse", pretrained=pretrained and not checkpoint, progress=False)
        except ValueError as error:
            raise InputError(f"--i_frame_quality: found {quality} for {name}; {error}") from None
        except OSError as error:
            raise ReadError(f"{name}: CompressAI's weights could not be downloaded ({error}); use --i_frame_checkpoint "
                            "FILE or --no-i_frame_pretrained") from None
        self.model = _load_weights(type(model), name, checkpoint) if checkpoint else model
        self.model.update(force=True)                        # tables of the entropy coder
        self.multiple = max(ZOO_MULTIPLE, getattr(self.model, "downsampling_factor", ZOO_MULTIPLE))
        self.freeze()
        self.model_id = weights_checksum(self.model)

    @torch.no_grad()
    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """x: float RGB `(B, 3, H, W)` in [0, 1], any size -> reconstruction and estimated bits of the batch."""
        check_quality("this I-frame codec", self.rates, quality)
        check_frames(x)
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
            raise InputError(f"frame: found {width}x{height}, needed sides of at most {LARGEST_SIDE}")
        out = self.model.compress(pad_to_multiple(x.float(), self.multiple))
        strings = [string[0] for string in out["strings"]]
        body = HEADER.pack(self.model_id, height, width, *out["shape"], len(strings))
        for string in strings:
            body += struct.pack("<I", len(string)) + string
        payload = struct.pack("<I", zlib.crc32(body)) + body
        return payload, self.decompress(payload)

    @torch.no_grad()
    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction `(1, 3, H, W)` in [0, 1]; raises BitstreamError on damage."""
        # CompressAI's decoder turns damaged bytes into noise or worse: nothing reaches it unchecked.
        body = payload[4:]
        if len(body) < HEADER.size or struct.unpack("<I", payload[:4])[0] != zlib.crc32(body):
            raise BitstreamError(f"I-frame of {len(payload)} bytes: checksum differs, damaged or cut short")
        model_id, height, width, latent_height, latent_width, count = HEADER.unpack_from(body)
        if model_id != self.model_id:
            raise BitstreamError(f"I-frame: made with model {model_id:08x}, this one is {self.model_id:08x} "
                                 f"({self.model_name}); decode with the weights it was encoded with")
        strings, position = [], HEADER.size
        for _ in range(count):
            (length,) = struct.unpack_from("<I", body, position)
            strings.append([body[position + 4:position + 4 + length]])
            position += 4 + length
        padded = (height + -height % self.multiple, width + -width % self.multiple)
        if count != self._expected_strings() or padded[0] * latent_width != padded[1] * latent_height:
            raise BitstreamError(f"I-frame: made with another model than {self.model_name} (found {count} strings, "
                                 f"latent {latent_width}x{latent_height} for {width}x{height})")
        out = self.model.decompress(strings, (latent_height, latent_width))
        return crop(out["x_hat"], height, width).clamp(0, 1)

    def _expected_strings(self) -> int:
        return 2 if hasattr(self.model, "h_a") else 1


def code_with_zoo_model(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """Frames `(B, 3, H, W)` in [0, 1] through a bare model of the zoo, padded and cropped: its own dictionary."""
    check_frames(x)
    result = dict(model(pad_to_multiple(x, ZOO_MULTIPLE)))
    result["x_hat"] = crop(result["x_hat"], *x.shape[-2:]).clamp(0, 1)
    return result
