"""The I-frame codecs: CompressAI's zoo and VQGANs, behind one protocol (dcvc.interfaces.FrameCodec)."""

from dcvc.intra.base import FrozenCodec, IntraOutput
from dcvc.intra.compressai import CompressAIIFrameModel
from dcvc.intra.registry import build_intra_codec, compress_i_frame_with_padding
from dcvc.intra.vqgan.codec import VQGANIFrameModel

__all__ = ["CompressAIIFrameModel", "FrozenCodec", "IntraOutput", "VQGANIFrameModel", "build_intra_codec",
           "compress_i_frame_with_padding"]
