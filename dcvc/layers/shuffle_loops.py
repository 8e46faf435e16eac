"""Pixels to channels and back, for pictures whose channels lie last: one pass, where torch moves every number
by itself and then once more into this order.

    planes (C, H, W)    -> patches (H/s, W/s, C s s)    s = 8: what the networks see of a picture
    rows (H, W, C s s)  -> squares (H s, W s, C)        s = 2: twice the height and width

In both, number (c s + i) s + j of a position is row i, column j of its square in channel c, as torch's
pixel_shuffle has it.
"""

from numba import uintp

from dcvc.device import compiled_with
from dcvc.layers import packed_loops
from dcvc.layers.packed_loops import unshuffle

compiled = compiled_with(packed_loops)


@compiled
def planes_to_patches(planes, side, patches):
    """planes (B, C, H, W) -> patches (B, H/s, W/s, C s s)"""
    for n in range(len(planes)):
        unshuffle(planes[n], side, 0, patches.shape[1], patches[n])


@compiled
def patches_to_planes(patches, side, planes):
    for n in range(patches.shape[0]):
        for y in range(patches.shape[1]):
            for c in range(planes.shape[1]):
                for i in range(side):
                    line, at = planes[n, c, side * y + i], (c * side + i) * side
                    for x in range(patches.shape[2]):
                        row = patches[n, y, x]
                        for j in range(side):
                            line[uintp(side * x + j)] = row[uintp(at + j)]


@compiled
def rows_to_squares(rows, side, squares):
    """rows (B, H, W, C s s) -> squares (B, H s, W s, C)"""
    step = uintp(side * side)
    for n in range(rows.shape[0]):
        for y in range(rows.shape[1]):
            for x in range(rows.shape[2]):
                row = rows[n, y, x]
                for i in range(side):
                    for j in range(side):
                        to, at = squares[n, y * side + i, x * side + j], uintp(i * side + j)
                        for c in range(len(to)):
                            to[uintp(c)] = row[at + uintp(c) * step]


@compiled
def squares_to_rows(squares, side, rows):
    step = uintp(side * side)
    for n in range(rows.shape[0]):
        for y in range(rows.shape[1]):
            for x in range(rows.shape[2]):
                row = rows[n, y, x]
                for i in range(side):
                    for j in range(side):
                        seen, at = squares[n, y * side + i, x * side + j], uintp(i * side + j)
                        for c in range(len(seen)):
                            row[at + uintp(c) * step] = seen[uintp(c)]
