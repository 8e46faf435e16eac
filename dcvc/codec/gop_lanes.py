"""How many groups of pictures are coded or decoded at the same time.

Each group begins with an I-frame and needs nothing of the others, so each has threads of its own
(dcvc/device/lanes.py). Threads that share a frame meet hundreds of times in it, and wait: of light-m's exact
frames of 640x360 two lanes on two cores code a third more than two threads that share each.

What it costs is memory: frames are read while earlier ones wait for their turn to be written,

    2 lanes, groups of 32      frame 0 ... 31 | 32 ... 63 | 64
                               lane 1           lane 2      waits

and time to the first packets, so whoever codes live takes one frame after another.
"""

import torch

from dcvc.codec.clip_coders import ClipCodec
from dcvc.device.lanes import Lanes
from dcvc.interfaces import codes_in_lanes

# Python's own part of a frame, a sixth, is done by one thread at a time.
LARGEST_COUNT = 8
# For all lanes together, in bytes.
MEMORY = 1 << 31
# What a lane needs for itself, state and passing results, in frames of three bytes a pixel. Measured of whole
# processes: light-s 70, light-m 90, uf-ld 94.
OWN = 100


def gop_lanes(codec: ClipCodec, size: tuple[int, int], gop: int) -> Lanes | None:
    """size: (height, width); gop: frames of a group at most, 0 where that is not known. None: one frame
    after another."""
    if not gop or codec.device.type != "cpu" or not all(map(codes_in_lanes, (codec.intra, codec.p_frame))):
        return None
    # Two for each lane, so that none waits for one to be taken away.
    room = gop + 2
    frame = 3 * size[0] * size[1]
    count = min(LARGEST_COUNT, torch.get_num_threads(), MEMORY // (frame * (room + OWN)))
    return Lanes(count, count * room) if count > 1 else None
