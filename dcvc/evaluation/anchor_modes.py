"""How an anchor may code: three modes, and the samples it gets. No torch: --help reads this.

    zerolatency      the encoder may not look ahead: each frame is coded when it comes, as our
                     P-frame codecs do. Nothing is weaker; only live transmission needs it.
    lowdelay         each frame refers to earlier ones only, up to 4 of them (x264, x265), and the
                     encoder looks ahead to give more bits to what later frames refer to, in the
                     place of HM's and VTM's hierarchical QP. What a decoder must do is the same as
                     in zerolatency. Tuned for PSNR, as those are.
    random-access    frames refer to later ones too: a pyramid of B-frames, or hidden frames of AV1.
                     The strongest, and comparable with codecs that may do the same.

    lowdelay         I0 <- P1 <- P2 <- P3 <- P4        coded and shown in this order
    random-access    I0 <------- B2 -------> P4        coded 0 4 2 1 3, shown 0 1 2 3 4
                        <- B1 -> <- B3 ->

x264 and x265 have no B-frames that refer to earlier frames only; their lowdelay has P-frames in
that place. In every mode an I-frame comes every `intra_period` frames, nothing refers across it (closed
GOPs), and one thread codes.
"""

from typing import Literal, get_args

Mode = Literal["zerolatency", "lowdelay", "random-access"]
MODES: tuple[str, ...] = get_args(Mode)
# Of FFmpeg's names: 8 or 10 bits, 4:2:0 or 4:4:4.
PIXELS = ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le")
