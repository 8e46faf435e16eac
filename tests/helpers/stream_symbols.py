"""Symbols of streams as docs/bitstream.md has them, by NumPy alone: tables of frequencies, and the ANS decoder. The
decoders in tests/codec/ that are written from the page share them; the package is not asked."""

import math
import struct

import numpy as np

PACE = math.log(256 / 0.11) / 127
EDGES = np.exp(math.log(0.11) + np.arange(128) * PACE).astype(np.float32)
SKIP = np.float32(0.15)


def frequencies(masses) -> np.ndarray:
    masses = np.asarray(masses)
    found = 1 + np.floor(masses / masses.sum() * (2**24 - len(masses))).astype(np.int64)
    found[masses.argmax()] += 2**24 - found.sum()
    return found


def class_table(number: int) -> tuple[int, np.ndarray, bool]:
    """First symbol, frequencies, whether the last one is an escape."""
    deviation = math.exp(math.log(0.11) + (number + 0.5) * PACE)
    reach = 1 + math.ceil(5.1 * deviation)
    tails = [0.5 * math.erfc((k + 0.5) / (deviation * math.sqrt(2))) for k in range(reach + 1)]
    side = [tails[k - 1] - tails[k] for k in range(1, reach + 1)]
    return -reach, frequencies([*side[::-1], 1 - 2 * tails[0], *side, max(2 * tails[-1], 2.0**-24)]), True


def z_table(h, b, a) -> tuple[int, np.ndarray, bool]:
    """Of one channel, h (4,), b (4,), a (3,)."""
    x, tail = np.arange(-128, 130) - 0.5, 2.0**-22
    for k in range(4):
        x = x * np.log1p(np.exp(float(h[k]))) + float(b[k])
        x = x + np.tanh(x) * np.tanh(float(a[k])) if k < 3 else x
    below, above = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
    mass = np.where(below[:-1] < 0.5, below[1:] - below[:-1], above[:-1] - above[1:]).clip(min=0)
    start = int(np.searchsorted(below[1:], tail).clip(0, 255))
    stop = max(int(len(mass) - np.searchsorted(above[:-1][::-1], tail)), start + 1)
    rest = max(0.0, float(below[start] + above[stop]))
    return start - 128, frequencies(np.append(mass[start:stop], rest)), True


def vector_table(numbers) -> tuple[int, np.ndarray, bool]:
    logits, widths = 10 * numbers[:3].astype(np.float64), np.exp(10 * numbers[3:].astype(np.float64))
    share, theta = np.exp(logits) / np.exp(logits).sum(), np.exp(-1 / widths)
    k = np.abs(np.arange(-127, 128))
    mass = share[0] * (k == 0) + sum(share[1 + i] * (1 - theta[i]) / (1 + theta[i]) * theta[i] ** k for i in (0, 1))
    return -127, frequencies(np.append(mass, max(1 - mass.sum(), 0))), True


def flag_table(logit) -> tuple[int, np.ndarray, bool]:
    share = 1 / (1 + math.exp(-10 * float(logit)))
    return 0, frequencies([1 - share, share]), False


class Reader:
    """The ANS decoder of the page."""

    def __init__(self, payload: bytes) -> None:
        payload += bytes(-len(payload) % 4)
        self.words = list(struct.unpack(f"<{len(payload) // 4}I", payload))
        self.state = (self._word() << 32) + self._word()

    def _word(self) -> int:
        return self.words.pop() if self.words else 0

    def take(self, table: np.ndarray) -> int:
        below = np.cumsum(table) - table
        place = self.state % 2**24
        entry = int(np.searchsorted(below, place, side="right")) - 1
        self.state = (self.state >> 24) * int(table[entry]) + place - int(below[entry])
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return entry

    def batch(self, numbers: np.ndarray, table_of) -> np.ndarray:
        """The symbols of the tables with these numbers, in the order of the numbers given."""
        symbols, escaped, known = np.zeros(len(numbers), np.int64), [], {}
        for at in np.argsort(numbers, kind="stable"):
            number = int(numbers[at])
            if number not in known:
                known[number] = table_of(number)
            first, table, escape = known[number]
            entry = self.take(table)
            symbols[at] = first + entry
            if escape and entry == len(table) - 1:
                escaped.append(at)
        half = np.full(1 << 16, 1 << 8)
        for at in escaped:
            symbols[at] = np.int32(np.uint32(self.take(half) | self.take(half) << 16))
        return symbols
