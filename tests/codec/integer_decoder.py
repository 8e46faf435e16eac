"""A second decoder of exact streams, written from docs/bitstream.md: NumPy's 64-bit integers, no torch.

Floats appear where the page has them: in the tables of symbols, in powers and logarithms that are rounded at
once, and in scales, which are one rounded product of two integers.
"""

import math

import numpy as np
from stream_symbols import EDGES, PACE, SKIP, Reader, class_table, flag_table, vector_table, z_table

LIMIT = 1 << 27
TAPS = ((0, 0, 0, 64, 0, 0, 0, 0), (-1, 4, -10, 58, 17, -5, 1, 0), (-1, 4, -11, 40, 40, -11, 4, -1),
        (0, 1, -5, 17, 58, -10, 4, -1))
PRIOR, LATENT, TRUNK, COARSE = 1 << 18, 1 << 19, 12, 9


# ---- integers

def shifted(x: np.ndarray, bits: int) -> np.ndarray:
    """x / 2^bits, half to even."""
    if bits <= 0:
        return x << -bits
    whole, rest, half = x >> bits, x & ((1 << bits) - 1), 1 << (bits - 1)
    return whole + ((rest > half) | ((rest == half) & (whole % 2 == 1)))


def limited(x: np.ndarray, limit) -> np.ndarray:
    return np.clip(x, -limit, limit)


def factor(x) -> np.ndarray:
    """In units of 2^-16."""
    return np.rint(np.asarray(x, np.float64) * 2**16).astype(np.int64)


def vector(table, quality: float) -> np.ndarray:
    table = table.astype(np.float64)
    place = quality * ((len(table) - 1) / 63)
    row = min(int(place), len(table) - 1)
    high = table[min(row + 1, len(table) - 1)]
    # The last row's signs are those of the row before.
    low = np.copysign(table[row], table[min(row, len(table) - 2)])
    return (low * np.abs(high / low) ** (place - row))[:, None, None]


def unshuffled(x: np.ndarray, side: int) -> np.ndarray:
    c, h, w = x.shape
    return x.reshape(c, h // side, side, w // side, side).transpose(0, 2, 4, 1, 3).reshape(-1, h // side, w // side)


def shuffled(x: np.ndarray, side: int) -> np.ndarray:
    c, h, w = x.shape
    return x.reshape(-1, side, side, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, h * side, w * side)


def padded(x: np.ndarray, multiple: int = 16) -> np.ndarray:
    return np.pad(x, ((0, 0), *((0, -side % multiple) for side in x.shape[1:])), mode="edge")


class Grid:
    """Integers times gain * 2^-bits, of magnitude up to limit (C,)."""

    def __init__(self, bits: int, limit: np.ndarray, gain: float = 1.0) -> None:
        self.bits, self.limit, self.gain = bits, np.asarray(limit, np.int64), gain


class Linear:
    """Weights (outputs, inputs) as integers, by the rule of the page."""

    def __init__(self, weight, bias, parts, bits: int, least: int) -> None:
        weight = np.asarray(weight, np.float64)
        bias = np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)
        share = np.concatenate([np.full(len(p.limit), p.gain * 2.0**-p.bits) for p in parts])
        limit, most = np.concatenate([p.limit for p in parts]), max(p.bits for p in parts)
        places = np.full(len(weight), most + 16)

        def integers(places):
            power = np.ldexp(1.0, places)
            return (np.rint(weight * share * power[:, None]).astype(np.int64), np.rint(bias * power).astype(np.int64))

        for _ in range(24):
            w, b = integers(places)
            places = places - ((np.abs(w) * limit).sum(1) + np.abs(b) > 1 << 24)
        if places.min() - most < least:
            places[:] = most + 16
        self.weight, self.bias = integers(places)
        self.places, self.shift = places, places - bits

    def sums(self, x: np.ndarray) -> np.ndarray:
        return (self.weight @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:]) + self.bias[:, None, None]

    def rounded(self, sums: np.ndarray) -> np.ndarray:
        return np.stack([shifted(s, int(n)) for s, n in zip(sums, self.shift, strict=True)])


class Networks:
    """Of one codec: weights by name, ranges by name."""

    def __init__(self, weights: dict[str, np.ndarray], ranges: dict) -> None:
        self.weights, self.ranges = weights, ranges

    def trunk(self, name: str, channels: int) -> Grid:
        return Grid(TRUNK, np.broadcast_to(np.asarray(self.ranges.get(name, 1024)) * 64, channels))

    def matrix(self, name: str):
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        return weight.reshape(len(weight), -1), bias

    def pointwise(self, name: str, x, parts):
        out = self.trunk(name, len(self.weights[f"{name}.weight"]))
        linear = Linear(*self.matrix(name), parts, TRUNK, 13)
        return limited(linear.rounded(linear.sums(x)), out.limit[:, None, None]), out

    def gate(self, name: str, channels: int):
        found = int(self.ranges.get(name, 1024))
        bits = min(10, math.floor((24 - math.log2(6 * found / 64)) / 2))
        limit = math.floor(found * 2**bits / 64)
        shift = max(0, math.ceil(math.log2(limit * 6 * 2**bits)) - 12)

        def act(h):
            h = limited(h, limit)
            return shifted(h * np.clip(h + 3 * 2**bits, 0, 6 * 2**bits), shift)

        largest = math.ceil(limit * 6 * 2**bits / 2**shift)
        return bits, act, Grid(2 * bits - shift, np.full(channels, largest), 1 / 6)

    def block(self, name: str, x, parts):
        w, out = self.weights, self.trunk(name, len(self.weights[f"{name}.dc.3.weight"]))
        if f"{name}.adaptor.weight" in w:
            linear = Linear(*self.matrix(f"{name}.adaptor"), parts, TRUNK, 13)
            x = limited(linear.rounded(linear.sums(x)), out.limit[:, None, None])
        else:
            out = Grid(TRUNK, np.maximum(out.limit, np.concatenate([p.limit for p in parts])))
        limit = out.limit[:, None, None]
        coarse = Grid(COARSE, np.rint(out.limit / 8))
        bits, act, grid = self.gate(f"{name}.dc.0", len(w[f"{name}.dc.0.weight"]))
        linear = Linear(*self.matrix(f"{name}.dc.0"), [coarse], bits, 9)
        h, grid = self.depthwise(f"{name}.dc.2", act(linear.rounded(linear.sums(shifted(x, TRUNK - COARSE)))), grid)
        linear = Linear(*self.matrix(f"{name}.dc.3"), [grid], TRUNK, 9)
        x = limited(x + linear.rounded(linear.sums(h)), limit)
        bits, act, grid = self.gate(f"{name}.ffn.0", len(h))
        linear = Linear(*self.matrix(f"{name}.ffn.0"), [coarse], bits, 9)
        h = act(linear.rounded(linear.sums(shifted(x, TRUNK - COARSE))))
        h = h.reshape(-1, 4, *h.shape[1:]).sum(1)
        linear = Linear(*self.matrix(f"{name}.ffn.2"), [Grid(grid.bits, 4 * grid.limit, grid.gain)], TRUNK, 9)
        return limited(x + linear.rounded(linear.sums(h)), limit), out

    def depthwise(self, name: str, x, grid):
        found = int(self.ranges.get(name, 1024))
        bits = 12 - math.ceil(math.log2(found / 64))
        limit = math.floor(found * 2.0**bits / 64)
        weight, bias = self.matrix(name)
        linear = Linear(weight, bias, [Grid(grid.bits, np.full(weight.shape[1], grid.limit[0]), grid.gain)], bits, 9)
        size, (c, height, width) = math.isqrt(weight.shape[1]), x.shape
        around = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
        total = sum(linear.weight[:, n, None, None] * around[:, n // size:n // size + height, n % size:n % size + width]
                    for n in range(size * size)) + linear.bias[:, None, None]
        return limited(linear.rounded(total), limit), Grid(bits, np.full(c, limit))

    def chain(self, name: str, x, parts):
        number = 0
        while any(f"{name}.{number}{end}.weight" in self.weights for end in (".dc.0", "")):
            layer = f"{name}.{number}"
            run = self.block if f"{layer}.dc.0.weight" in self.weights else self.pointwise
            x, grid = run(layer, x, parts)
            parts, number = [grid], number + 1
        return x, parts[0]

    # Scales: the section "Exact scales", in units of 2^-18.

    def scale_layer(self, name: str, x, groups: int = 1):
        weight, bias = self.matrix(name)
        bits = 22 - math.ceil(math.log2(max(1.0, np.abs(weight.astype(np.float64)).sum(1).max())))
        weight = np.rint(weight.astype(np.float64) * 2.0**bits).astype(np.int64)
        shift = 0 if bias is None else snapped(bias.astype(np.float64))[:, None, None] << bits
        if groups == 1:
            total = (weight @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
        else:
            (height, width), around = x.shape[1:], np.pad(x, ((0, 0), (1, 1), (1, 1)))
            total = sum(weight[:, n, None, None] * around[:, n // 3:n // 3 + height, n % 3:n % 3 + width]
                        for n in range(9))
        return limited(shifted(total + shift, bits), LIMIT)

    def scale_block(self, name: str, x):
        def act(h, fold=1):
            gate = limited(shifted(h * 10923 + (1 << 33), 16), LIMIT)
            product = (h * np.clip(gate, 0, 1 << 18)).reshape(-1, fold, *h.shape[1:]).sum(1)
            return limited(shifted(product, 18), LIMIT)

        if f"{name}.adaptor.weight" in self.weights:
            x = self.scale_layer(f"{name}.adaptor", x)
        h = self.scale_layer(f"{name}.dc.2", act(self.scale_layer(f"{name}.dc.0", x)), groups=2)
        x = x + self.scale_layer(f"{name}.dc.3", h)
        return x + self.scale_layer(f"{name}.ffn.2", act(self.scale_layer(f"{name}.ffn.0", x), 4))

    def scale_chain(self, name: str, x):
        number = 0
        while any(f"{name}.conv.{number}{end}.weight" in self.weights for end in (".up.conv.0", ".dc.0", "")):
            layer = f"{name}.conv.{number}"
            if f"{layer}.up.conv.0.weight" in self.weights:
                x = self.scale_block(f"{layer}.conv", shuffled(self.scale_layer(f"{layer}.up.conv.0", x), 2))
            elif f"{layer}.dc.0.weight" in self.weights:
                x = self.scale_block(layer, x)
            else:
                x = self.scale_layer(layer, x)
            number += 1
        return x


def snapped(x: np.ndarray) -> np.ndarray:
    return limited(np.rint(x * 2**18), LIMIT).astype(np.int64)


# ---- pictures

def levels_to_picture(levels: np.ndarray) -> np.ndarray:
    r, g, b, cb, cr = 0.2126, 0.7152, 0.0722, 0.5 / 0.9278, 0.5 / 0.7874
    rows = [[r, g, b], [-r * cb, -g * cb, (1 - b) * cb], [(1 - r) * cr, -g * cr, -b * cr]]
    matrix = np.rint(np.array(rows) * (2.0**26 / 255)).astype(np.int64)
    sums = np.einsum("ij,jhw->ihw", matrix, levels.astype(np.int64))
    sums[0] -= 512 << 16
    return limited(shifted(sums, 16), 512)


def picture_to_levels(picture: np.ndarray) -> np.ndarray:
    r, g, b, cb, cr = 0.2126, 0.7152, 0.0722, 1.8556, 1.5748
    rows = [[1, 0, cr], [1, -b * cb / g, -r * cr / g], [1, cb, 0]]
    matrix = np.rint(np.array(rows) * (255 * 2.0**12)).astype(np.int64)
    sums = np.einsum("ij,jhw->ihw", matrix, picture + np.array([2048, 0, 0])[:, None, None])
    return np.clip(shifted(sums, 24), 0, 255).astype(np.uint8)


def warped(picture: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    out, (_, height, width) = np.empty_like(picture), picture.shape
    for row in range(height // 8):
        for column in range(width // 8):
            dy, dx = (int(v) for v in vectors[:, row, column])
            y = np.clip(8 * row + (dy >> 2) - 3 + np.arange(15), 0, height - 1)
            x = np.clip(8 * column + (dx >> 2) - 3 + np.arange(15), 0, width - 1)
            window = picture[:, y[:, None], x]
            down = sum(TAPS[dy & 3][k] * window[:, k:k + 8] for k in range(8))
            block = sum(TAPS[dx & 3][k] * down[:, :, k:k + 8] for k in range(8))
            out[:, 8 * row:8 * row + 8, 8 * column:8 * column + 8] = limited(shifted(block, 12), 512)
    return out


# ---- motion

def steps_of(height: int, width: int):
    """(places, offsets of the four neighbours or None) in the order of coding."""
    places = [(r, c) for r in range(height) for c in range(width)]
    yield [p for p in places if p[0] % 8 == 0 and p[1] % 8 == 0], None
    for d in (4, 2, 1):
        diagonal = [p for p in places if p[0] % (2 * d) == d and p[1] % (2 * d) == d]
        straight = [p for p in places if {p[0] % (2 * d), p[1] % (2 * d)} == {0, d}]
        yield diagonal, [(-d, -d), (-d, d), (d, -d), (d, d)]
        yield straight, [(-d, 0), (0, -d), (0, d), (d, 0)]


def read_vectors(reader: Reader, weights, height: int, width: int, before) -> np.ndarray:
    """height, width: of the grid of 8x8 blocks."""
    h, w = height // 2, width // 2
    first, spreads = np.zeros((2, h, w), np.int64), np.zeros((h, w), np.int64)

    def count(value, limits):
        return sum(int(value > limit) for limit in limits)

    def neighbours(r, c, offsets):
        found = []
        for dy, dx in offsets:
            y, x = r + dy, c + dx
            found.append((r - dy if not 0 <= y < h else y, c - dx if not 0 <= x < w else x))
        inside = [p for p in found if 0 <= p[0] < h and 0 <= p[1] < w]
        return [p if p in inside else inside[0] for p in found]

    def pairs(expected, spread, distance):
        contexts = np.array([(s * 4 + t) * 4 for s, t in zip(spread, distance, strict=True)], np.int64)
        table = lambda number: vector_table(weights["motion.table"][number])  # noqa: E731
        dy = reader.batch(contexts, table)
        dx = reader.batch(contexts + 1 + np.array([count(abs(v), (0, 4)) for v in dy], np.int64), table)
        return expected + np.stack((dy, dx))

    for places, offsets in steps_of(h, w):
        if not places:
            continue
        expected, spread, distance = np.zeros((2, len(places)), np.int64), [], []
        for n, (r, c) in enumerate(places):
            there = np.zeros(2, np.int64) if before is None else before[:, 2 * r, 2 * c]
            expected[:, n], wide = there, 0
            if offsets is not None:
                near = np.sort([first[:, y, x] for y, x in neighbours(r, c, offsets)], axis=0)
                expected[:, n], wide = (near[1] + near[2]) >> 1, int((near[3] - near[0]).max())
            spreads[r, c] = count(wide, (0, 2, 8, 32))
            spread.append(spreads[r, c])
            distance.append(3 if before is None else count(int(np.abs(there - expected[:, n]).max()), (0, 4)))
        found = pairs(expected, spread, distance)
        for n, (r, c) in enumerate(places):
            first[:, r, c] = found[:, n]
    vectors = first.repeat(2, 1).repeat(2, 2)
    split = reader.batch(spreads.ravel(), lambda number: flag_table(weights["motion.split"][number])).reshape(h, w)
    chosen = [(r, c) for r in range(h) for c in range(w) if split[r, c]]
    if chosen:
        expected = np.stack([first[:, r, c] for r, c in chosen for _ in range(3)], axis=1)
        found = pairs(expected, [5] * expected.shape[1], [3] * expected.shape[1])
        for n, (r, c) in enumerate(chosen):
            for k, (y, x) in enumerate(((0, 1), (1, 0), (1, 1))):
                vectors[:, 2 * r + y, 2 * c + x] = found[:, 3 * n + k]
    return vectors


# ---- frames

class IntegerDecoder:
    """inter, intra: (weights by name, ranges by name) of both codecs. `decode` takes a frame's type (1, 2), its
    payload and the size (height, width) -> uint8 (3, height, width)."""

    def __init__(self, inter, intra) -> None:
        self.inter, self.intra = Networks(*inter), Networks(*intra)

    def decode(self, kind: int, payload: bytes, size: tuple[int, int]) -> np.ndarray:
        refresh = payload[0] == 0xFD
        quality, payload = payload[refresh] / 4, payload[1 + refresh:]
        if kind == 1:
            x_hat = self._i_frame(Reader(payload[8:]), quality, size)
            levels = picture_to_levels(x_hat)[:, :size[0], :size[1]]
            self.show(levels)
            return levels
        x_hat = self._p_frame(Reader(payload), quality)
        if refresh:
            self._restart(self.picture)
        return picture_to_levels(x_hat)[:, :size[0], :size[1]]

    def show(self, levels: np.ndarray) -> None:
        """A state as after an I-frame that shows these levels (3, height, width)."""
        self._restart(padded(levels_to_picture(levels)))

    def _restart(self, picture: np.ndarray) -> None:
        self.picture, self.memory, self.vectors, self.trace = picture, None, None, None

    def _z(self, networks: Networks, hyper: str, reader: Reader, quality: float, grid) -> np.ndarray:
        """-> what the hyper decoder says, in units of 2^-18, cropped."""
        w = networks.weights
        rows, m = w["bit_estimator_z.h"].shape[:2]
        row = int(quality * (rows - 1) / 63 + 0.5)
        shape = (m, -(-grid[0] // 4), -(-grid[1] // 4))
        numbers = np.repeat(np.arange(m), shape[1] * shape[2])
        z = reader.batch(numbers, lambda c: z_table(*(w[f"bit_estimator_z.{name}"][row, c] for name in "hba")))
        steps = factor(1 / vector(w["q_hyper"], quality))
        x = limited((z.reshape(shape) * steps) << 2, LIMIT)
        return networks.scale_chain(hyper, x)[:, :grid[0], :grid[1]]

    @staticmethod
    def _y(reader: Reader, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> symbols and classes of all places."""
        classes = np.maximum(np.searchsorted(EDGES, scale, side="right") - 1, 0)
        symbols, coded = np.zeros(scale.shape, np.int64), scale > SKIP
        symbols[coded] = reader.batch(classes[coded], class_table)
        assert (reader.state, reader.words) == (0, []), "symbols are left over"
        return symbols, classes

    @staticmethod
    def _checkerboard(symbols, mean, second_mean):
        """In units of 2^-6; second_mean: y_hat of the first step -> means of the second."""
        c, h, w = symbols.shape
        even = (np.arange(h)[:, None] + np.arange(w)) % 2 == 0
        first = np.concatenate((np.tile(even, (c // 2, 1, 1)), np.tile(~even, (c // 2, 1, 1))))
        known = np.where(first, symbols * 64 + mean, 0)
        return np.where(first, known, symbols * 64 + second_mean(limited(known, LATENT)))

    def _p_frame(self, reader: Reader, quality: float) -> np.ndarray:
        net, w = self.inter, self.inter.weights
        c, n = w["q_decoder"].shape[1], w["q_prior"].shape[1]
        height, width = self.picture.shape[1:]
        self.vectors = read_vectors(reader, w, height // 8, width // 8, self.vectors)
        prediction = warped(self.picture, self.vectors)
        pixels, patches = Grid(10, np.full(192, 512)), unshuffled(prediction, 8)
        adaptor = next(k for k in range(98, -1, -1) if f"feature_adaptor_m.conv.{k}.dc.0.weight" in w)
        later = net.trunk(f"feature_adaptor_m.conv.{adaptor}", c)
        adaptor = next(k for k in range(98, -1, -1) if f"feature_adaptor_i.conv.{k}.dc.0.weight" in w)
        memory_grid = Grid(TRUNK, np.maximum(later.limit, net.trunk(f"feature_adaptor_i.conv.{adaptor}", c).limit))
        if self.memory is None:
            memory, _ = net.chain("feature_adaptor_i.conv", patches, [pixels])
        else:
            embedded, grid = net.pointwise("prediction_embedding", patches, [pixels])
            memory, _ = net.chain("feature_adaptor_m.conv", np.concatenate((self.memory, self.feature, embedded)),
                                  [memory_grid, net.trunk("decoder.conv2", c), grid])
        context, context_grid = net.chain("feature_extractor.conv", memory, [memory_grid])
        # Scales.
        hyper = self._z(net, "hyper_decoder", reader, quality, (height // 16, width // 16))
        unit, prior = vector(w["q_prior"], quality), Grid(TRUNK, np.full(n, PRIOR))
        trace = np.zeros((2 * n, *hyper.shape[1:]), np.int64) if self.trace is None else self.trace
        raw = hyper + net.scale_chain("scale_prior", np.concatenate((hyper, trace)))
        scale = (raw * factor(unit) / 2**34).astype(np.float32)
        # Step and means.
        squares = Grid(TRUNK, memory_grid.limit.repeat(4))
        temporal, grid = net.pointwise("temporal_prior_encoder.conv.down", unshuffled(memory, 2), [squares])
        temporal, _ = net.block("temporal_prior_encoder.conv.conv", temporal, [grid])
        temporal = limited(shifted(temporal * factor(vector(w["q_feature"], quality)), 16), PRIOR)
        seen = limited(shifted(hyper, 6), PRIOR)
        found, found_grid = net.chain("y_prior_fusion.conv", np.concatenate((seen, temporal)),
                                      [prior, Grid(TRUNK, np.full(c, PRIOR))])
        step, mean = np.maximum(found[:n], 1 << 11), found[n:]
        symbols, classes = self._y(reader, scale)
        back = factor(1 / unit)
        size = limited(np.rint(scale.astype(np.float64) * back / 16), PRIOR).astype(np.int64)

        def in_y(mean):
            return limited(shifted(mean * factor(unit), 22), LATENT)

        def second(known):
            known = limited(shifted(known * back, 10), PRIOR)
            x = np.concatenate((known, found, size))
            return in_y(net.chain("y_spatial_prior.conv", x, [prior, found_grid, prior])[0])

        y_hat = limited(self._checkerboard(symbols, in_y(mean), second), LATENT)
        y_hat = limited(shifted(y_hat * step, 12), LATENT)
        # The picture.
        up_grid = net.trunk("decoder.conv1.0:0", c)
        linear = Linear(*net.matrix("decoder.up.conv.0"), [Grid(6, np.full(n, LATENT))], TRUNK, 13)
        gain = factor(vector(w["q_decoder"], quality)).repeat(4, axis=0)
        up = np.stack([shifted(s, int(k) + 16) for s, k in zip(linear.sums(y_hat) * gain, linear.shift, strict=True)])
        up = shuffled(limited(up, up_grid.limit.repeat(4)[:, None, None]), 2)
        x, grid = net.chain("decoder.conv1", np.concatenate((up, context)), [up_grid, context_grid])
        feature, _ = net.pointwise("decoder.conv2", x, [grid])
        change_grid = net.trunk("recon_head.conv.0", c)
        difference = limited(feature - context, change_grid.limit[:, None, None])
        x, grid = net.chain("recon_head.conv", difference, [change_grid])
        change, _ = net.pointwise("recon_head.head", x, [grid])
        x_hat = prediction * 4 + shuffled(change, 8)
        self.picture, self.memory, self.feature = limited(shifted(x_hat, 2), 512), memory, feature
        levels = factor(np.log(unit) / PACE)
        self.trace = np.concatenate((np.minimum(np.abs(symbols), 15) << 16,
                                     np.rint((classes * 2**16 - levels) / 16).astype(np.int64) << 2))
        return x_hat

    def _i_frame(self, reader: Reader, quality: float, size: tuple[int, int]) -> np.ndarray:
        net, w = self.intra, self.intra.weights
        n, unit = w["q_prior"].shape[1], vector(w["q_prior"], quality)
        grid = (-(-size[0] // 16), -(-size[1] // 16))
        hyper = self._z(net, "hyper_dec", reader, quality, (4 * -(-grid[0] // 4), 4 * -(-grid[1] // 4)))
        found = net.scale_chain("y_prior_fusion", hyper)[:, :grid[0], :grid[1]]
        scale = (found[:n] * factor(unit) / 2**34).astype(np.float32)
        seen, back = limited(shifted(found, 6), PRIOR), factor(1 / unit)
        symbols, _ = self._y(reader, scale)
        prior = Grid(TRUNK, np.full(n, PRIOR))

        def in_y(mean):
            return limited(shifted(mean * factor(unit), 22), LATENT)

        def second(known):
            x = np.concatenate((limited(shifted(known * back, 10), PRIOR), seen))
            return in_y(net.chain("y_spatial_prior.conv", x, [prior, prior, prior])[0])

        y_hat = limited(self._checkerboard(symbols, in_y(seen[n:]), second), LATENT)
        y_grid, name = net.trunk("dec.dec_1.0.up.conv.0:0", n), "dec.dec_1.0.up.conv.0"
        y_hat = limited(shifted(y_hat * factor(vector(w["q_scale_y_dec"], quality)), 10), y_grid.limit[:, None, None])
        x, grid = net.pointwise(name, y_hat, [y_grid])
        x, grid = shuffled(x, 2), Grid(TRUNK, grid.limit.reshape(-1, 4).max(1))
        x, grid = net.block("dec.dec_1.0.conv", x, [grid])
        for number in range(1, 99):
            if f"dec.dec_1.{number}.dc.0.weight" not in w:
                break
            x, grid = net.block(f"dec.dec_1.{number}", x, [grid])
        x, _ = net.block("dec.dec_2", x, [grid])
        return shuffled(x, 8)
