"""Clips made by rule: dead leaves with known motion, for demos and tests without any data.

A scene is a flat plane, fully painted with leaves that hide each other, as leaves lie on the
ground. In front of it a few larger leaves move by themselves and throw a soft shadow. A camera
pans, zooms and turns over all of it:

    plane ────────────────────────────────┐
    leaf 1 ─ its own place and angle at t ─┼─▶ camera at t ─▶ light at t ─▶ frame t
    leaf 2 ─ …                            ─┘

The radii of the painted leaves follow a power law (Lee, Mumford, Huang, "Occlusion models for
natural images", IJCV 2001), so that the spectrum falls like that of natural images. A scene is a
function of time, not a list of frames: any frame can be made alone, and the true motion between two
of them is known, since every layer moves by a 3x3 matrix.
"""

import copy
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter
from tqdm import tqdm

from dcvc.errors import InputError
from dcvc.video.writer import VideoWriter

# Leaves are painted on a finer raster: that smooths their edges.
OVERSAMPLING = 2
# In pixels, of the leaves of the plane.
SMALLEST_RADIUS = 3.5
# Mean number of leaves over a point: enough that hardly any ground is left to see.
COVERAGE = 2.5
# Pixels that the camera moves to each side at most; the plane must be that much larger.
LARGEST_SWING = 48.0
# Side of the periodic texture tiles.
TILE = 256


@dataclass(frozen=True)
class Pose:
    """A similarity: layer coordinates -> scale·rotation·point + shift, in pixels."""

    scale: float
    angle: float
    shift: tuple[float, float]

    @property
    def matrix(self) -> np.ndarray:
        cosine, sine = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        return np.array([[cosine, -sine, self.shift[0]],
                         [sine, cosine, self.shift[1]],
                         [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Swing:
    """A slow harmonic motion about `centre`: `speed` is its fastest change per frame."""

    centre: float
    amplitude: float
    speed: float
    phase: float

    def at(self, t: float) -> float:
        if self.amplitude == 0:
            return self.centre
        return self.centre + self.amplitude * math.sin(self.speed / self.amplitude * t + self.phase)


@dataclass(frozen=True)
class Leaf:
    """A leaf in front of the plane: outline `radius·(1 + Σ amplitude·cos(k·angle + phase))`,
    texture and motion."""

    radius: float
    harmonics: tuple[tuple[int, float, float], ...]
    texture: np.ndarray
    x: Swing
    y: Swing
    angle: Swing

    def matrix(self, t: float) -> np.ndarray:
        return Pose(1.0, self.angle.at(t), (self.x.at(t), self.y.at(t))).matrix

    def coverage(self, x: np.ndarray, y: np.ndarray, softness: float) -> np.ndarray:
        """Opacity in [0, 1] at leaf coordinates; the edge is `softness` pixels wide."""
        around = np.arctan2(y, x)
        outline = np.ones_like(x)
        for k, amplitude, phase in self.harmonics:
            outline += amplitude * np.cos(k * around + phase)
        return np.clip((self.radius * outline - np.hypot(x, y)) / softness + 0.5, 0.0, 1.0)


class Scene:
    """One clip: `frame(t)` is uint8 `(H, W, 3)` for any t, `flow(t)` the true motion. The same seed
    and size give the same scene. `size` is (width, height) in pixels.

    tripod: the camera and the light stand still. smallest: radius of the plane's smallest leaves in
    pixels: larger ones make a calmer picture.
    """

    def __init__(self, seed: int, size: tuple[int, int], tripod: bool = False,
                 smallest: float = SMALLEST_RADIUS) -> None:
        width, height = self.size = size
        if min(size) < 16:
            raise InputError(f"size: found {width}×{height}, needed at least 16×16")
        rng = np.random.default_rng([seed, width, height])
        self._palette = _palette(rng)
        self._tiles = [_noise_tile(rng) for _ in range(6)]
        # Speeds per frame: a zoom of 0.2 to 0.8 %, a turn of up to 0.6 degrees, a pan of 1 to 4
        # pixels.
        self._zoom = _swing(rng, 1.0, (0.05, 0.14), (0.002, 0.008))
        self._angle = _swing(rng, rng.uniform(-0.2, 0.2), (0.05, 0.15), (0.001, 0.01))
        self._pan = _pan(rng, LARGEST_SWING, rng.uniform(1.0, 4.0))
        self._light = _swing(rng, 1.0, (0.02, 0.06), (0.001, 0.006))
        # As far as the camera ever sees: half a diagonal and the swing, more where it zooms out.
        diagonal = math.hypot(width, height)
        reach = 1.2 * (diagonal / 2 + math.hypot(LARGEST_SWING, LARGEST_SWING)) + 4
        self._plane = _prefilter(
            self._paint(rng, int(2 * reach), 0.35 * diagonal, self._palette, smallest))
        if tripod:
            self._zoom, self._light = Swing(1.0, 0, 0, 0), Swing(1.0, 0, 0, 0)
            self._angle, self._pan = Swing(0.0, 0, 0, 0), (Swing(0.0, 0, 0, 0),) * 2
        self._leaves = self._make_leaves(rng)
        # Sampling the plane is most of the work, and what a still camera sees of it stays the same.
        self._still = _sample(self._plane, *self._layer_coordinates(self.camera(0))) if tripod else None

    def another_take(self, number: int) -> "Scene":
        """The same camera over the same plane, and other leaves in front: another recording of one
        place."""
        scene = copy.copy(self)
        scene._leaves = self._make_leaves(np.random.default_rng([number, *self.size]))
        return scene

    def _make_leaves(self, rng: np.random.Generator) -> list[Leaf]:
        return [self._make_leaf(rng) for _ in range(rng.integers(2, 5))]

    def camera(self, t: float) -> np.ndarray:
        """3×3 similarity from plane coordinates (origin in its middle) to pixels of frame t."""
        pan_x, pan_y = (swing.at(t) for swing in self._pan)
        turn = Pose(self._zoom.at(t), self._angle.at(t), (0.0, 0.0)).matrix
        shift_x, shift_y = turn[:2, :2] @ (pan_x, pan_y)
        turn[0, 2] = shift_x + (self.size[0] - 1) / 2
        turn[1, 2] = shift_y + (self.size[1] - 1) / 2
        return turn

    def frame(self, t: float) -> np.ndarray:
        """uint8 RGB `(H, W, 3)`."""
        return np.rint(255 * np.clip(self.light(t), 0.0, 1.0)).astype(np.uint8)

    def light(self, t: float) -> np.ndarray:
        """What falls on the sensor: float64 RGB `(H, W, 3)`, white is 1, and more may come."""
        camera = self.camera(t)
        if self._still is None:
            image = _sample(self._plane, *self._layer_coordinates(camera))
        else:
            image = self._still.copy()
        for leaf in self._leaves:
            x, y = self._layer_coordinates(camera @ leaf.matrix(t))
            # The light comes from the upper left, so the shadow lies a little to the lower right.
            right, down = 0.12 * leaf.radius, 0.16 * leaf.radius
            shadow = leaf.coverage(x - right, y - down, softness=0.3 * leaf.radius)
            image *= 1 - 0.4 * shadow[..., None]
            alpha = leaf.coverage(x, y, softness=1.2)
            covered = alpha > 0
            texture = _sample(leaf.texture, x[covered], y[covered])
            image[covered] += alpha[covered, None] * (texture - image[covered])
        return image * self._light.at(t)

    def flow(self, t: float) -> np.ndarray:
        """float64 `(2, H, W)`, (x, y) in pixels: pixel p of frame t comes from p + flow in frame t
        - 1."""
        now, before = self.camera(t), self.camera(t - 1)
        flow = self._layer_flow(now, before)
        for leaf in self._leaves:
            placed, earlier = now @ leaf.matrix(t), before @ leaf.matrix(t - 1)
            covered = leaf.coverage(*self._layer_coordinates(placed), softness=1.2) > 0.5
            flow = np.where(covered, self._layer_flow(placed, earlier), flow)
        return flow

    def _layer_coordinates(self, placed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.mgrid[: self.size[1], : self.size[0]].astype(np.float64)
        inverse = np.linalg.inv(placed)
        x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
        y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
        return x, y

    def _layer_flow(self, now: np.ndarray, before: np.ndarray) -> np.ndarray:
        rows, columns = np.mgrid[: self.size[1], : self.size[0]].astype(np.float64)
        move = before @ np.linalg.inv(now)
        x = move[0, 0] * columns + move[0, 1] * rows + move[0, 2]
        y = move[1, 0] * columns + move[1, 1] * rows + move[1, 2]
        return np.stack((x - columns, y - rows))

    def _make_leaf(self, rng: np.random.Generator) -> Leaf:
        width, height = self.size
        radius = rng.uniform(0.12, 0.26) * min(width, height)
        # Weaker the finer they are: lobes, not noise.
        harmonics = tuple((k, rng.uniform(0, 0.5 / k**1.3), rng.uniform(0, 2 * math.pi))
                          for k in range(2, 6))
        colours = _palette(rng)[:1] * np.array([[1.0], [0.8]], np.float32)
        side = int(2 * 1.9 * radius) + 4
        texture = self._paint(rng, side, 0.5 * radius, colours, smallest=0.16 * radius)
        rows, columns = np.mgrid[:side, :side] / (side / 2) - 1
        # Lit from the upper left.
        texture *= (1.15 - 0.35 * np.hypot(columns + 0.3, rows + 0.3))[..., None]
        centre = [rng.uniform(-0.38, 0.38) * side for side in self.size]
        x, y = _pan(rng, rng.uniform(20, 45), rng.uniform(1.0, 4.5))
        angle = Swing(rng.uniform(-math.pi, math.pi), 0.6, rng.uniform(0.0, 0.03),
                      rng.uniform(0, 2 * math.pi))
        return Leaf(radius=radius, harmonics=harmonics, angle=angle,
                    texture=_prefilter(np.clip(texture, 0.0, 1.0)),
                    x=replace(x, centre=centre[0]), y=replace(y, centre=centre[1]))

    def _paint(self, rng: np.random.Generator, side: int, largest: float, palette: np.ndarray,
               smallest: float = SMALLEST_RADIUS) -> np.ndarray:
        """A square of leaves, float64 `(side, side, 3)` in [0, 1]; radii in pixels."""
        fine = side * OVERSAMPLING
        canvas = np.empty((fine, fine, 3), np.float32)
        low, high = max(smallest, 1.0) * OVERSAMPLING, largest * OVERSAMPLING
        # Radii with density r^-3 between low and high; E[r²] gives the number needed for the
        # coverage.
        mean_square = 2 * math.log(high / low) / (low**-2 - high**-2)
        count = int(COVERAGE * fine * fine / (0.7 * math.pi * mean_square))
        draws = rng.random(count)
        radii = (low**-2 - draws * (low**-2 - high**-2)) ** -0.5
        canvas[:] = palette[0]
        # The first leaf is larger than the square: a ground with texture, where no other lies.
        for radius in np.concatenate(([2.0 * fine], radii)):
            _paint_leaf(rng, canvas, radius, palette, self._tiles)
        light = 1 + 0.3 * _resized_noise(rng, fine)[..., None]
        canvas = np.clip(canvas * light, 0.02, 0.98)
        blocks = canvas.reshape(side, OVERSAMPLING, side, OVERSAMPLING, 3)
        return blocks.mean((1, 3), dtype=np.float64)


def _swing(rng: np.random.Generator, centre: float, amplitude: tuple[float, float],
           speed: tuple[float, float]) -> Swing:
    """Amplitude and speed drawn from these ranges, the phase from all."""
    return Swing(centre, rng.uniform(*amplitude), rng.uniform(*speed), rng.uniform(0, 2 * math.pi))


def _pan(rng: np.random.Generator, amplitude: float, speed: float) -> tuple[Swing, Swing]:
    """Two swings whose common speed at frame 0 points anywhere and stays below `speed` per frame.
    """
    heading = rng.uniform(0, 2 * math.pi)
    phases = rng.uniform(-0.6, 0.6, size=2)
    return tuple(
        Swing(0.0, amplitude, max(abs(part) * speed, 0.05), phase + (math.pi if part < 0 else 0.0))
        for part, phase in zip((math.cos(heading), math.sin(heading)), phases, strict=True)
    )


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Six colours whose brightness varies most, blue-yellow less and red-green least, as in natural
    scenes."""
    brightness = 0.40 * np.exp(rng.normal(0, 0.45, size=6))
    scene = rng.normal((0.08, -0.02), (0.08, 0.03))
    blue_yellow, red_green = (scene + rng.normal(0, (0.13, 0.05), size=(6, 2))).T
    tint = np.stack((1 + blue_yellow + red_green,
                     1 + 0.4 * blue_yellow - red_green,
                     1 - 1.3 * blue_yellow), axis=-1)
    return np.clip(brightness[:, None] * tint, 0.04, 0.85).astype(np.float32)


def _noise_tile(rng: np.random.Generator) -> np.ndarray:
    """A periodic texture with amplitude ~ 1/f^a, stretched along a random axis; zero mean, unit
    deviation."""
    fy, fx = np.meshgrid(np.fft.fftfreq(TILE), np.fft.rfftfreq(TILE), indexing="ij")
    angle, stretch = rng.uniform(0, math.pi), rng.choice([1.0, 1.0, 2.5, 5.0])
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = fy * math.cos(angle) - fx * math.sin(angle)
    radius = np.hypot(along * stretch, across / stretch**0.3)
    # The mean has frequency 0, which no power of 1/f can weigh: infinite here, it becomes 0.
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * radius ** -rng.uniform(1.0, 1.5)
    tile = np.fft.irfft2(spectrum, (TILE, TILE))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def _resized_noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """A smooth field `(side, side)` in about [-1, 1]: light and shade over the plane."""
    grid = rng.uniform(-1, 1, size=(6, 6))
    steps = np.linspace(0, 5, side)
    at = np.meshgrid(steps, steps, indexing="ij")
    return map_coordinates(grid, at, order=3, mode="nearest").astype(np.float32)


def _paint_leaf(rng: np.random.Generator, canvas: np.ndarray, radius: float, palette: np.ndarray,
                tiles: list[np.ndarray]) -> None:
    """Paint one leaf over what is there; its middle may lie outside."""
    side = len(canvas)
    # All draws come before the leaf may turn out to lie outside: the leaves after it stay the same.
    aspect, angle = rng.uniform(0.45, 1.0), rng.uniform(0, 2 * math.pi)
    # One in four is a rectangle: pictures of towns have straight edges.
    squareness = rng.choice([2.0, 2.0, 2.0, 8.0])
    lobes, depth = rng.integers(2, 6), rng.uniform(0, 0.25)
    colour = palette[rng.integers(len(palette))] * np.exp(rng.normal(0, 0.12))
    colour = colour + rng.normal(0, 0.015, size=3)
    contrast, shading = 0.04 + 0.16 * rng.random(), rng.normal(0, 0.15)
    tile = tiles[rng.integers(len(tiles))]
    row_shift, column_shift = rng.integers(0, TILE, size=2)
    centre_row = centre_column = side / 2
    if radius < side:
        centre_row, centre_column = rng.uniform(-radius, side + radius, size=2)
    reach = radius * (1.3 if squareness == 2 else 1.0)
    top, left = (max(0, math.floor(middle - reach)) for middle in (centre_row, centre_column))
    bottom, right = (min(side, math.ceil(middle + reach) + 1) for middle in (centre_row, centre_column))
    if top >= bottom or left >= right:
        return
    rows = (np.arange(top, bottom, dtype=np.float32) - centre_row)[:, None] / radius
    columns = (np.arange(left, right, dtype=np.float32) - centre_column)[None, :] / radius
    u = columns * math.cos(angle) + rows * math.sin(angle)
    v = (rows * math.cos(angle) - columns * math.sin(angle)) / aspect
    if squareness == 2:
        outline = 1 + depth * np.cos(lobes * np.arctan2(v, u))
        inside = u * u + v * v <= outline * outline
    else:
        inside = np.maximum(np.abs(u), np.abs(v)) <= 0.8
    grain = tile[np.ix_((np.arange(top, bottom) + row_shift) % TILE,
                        (np.arange(left, right) + column_shift) % TILE)]
    brightness = 1 + contrast * grain + shading * np.clip(u, -1.5, 1.5)
    patch = canvas[top:bottom, left:right]
    patch[inside] = (brightness[..., None] * colour)[inside]


def _prefilter(texture: np.ndarray) -> np.ndarray:
    """Cubic spline coefficients `(3, side, side)` of `(side, side, 3)`."""
    return np.stack([spline_filter(texture[..., c], order=3, mode="mirror") for c in range(3)])


def _sample(coefficients: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Texture values `(..., 3)` at coordinates `(...)` counted from its middle."""
    middle = (coefficients.shape[-1] - 1) / 2
    at = (y + middle, x + middle)
    return np.stack([map_coordinates(channel, at, order=3, mode="mirror", prefilter=False)
                     for channel in coefficients], axis=-1)


def write_synthetic_clips(out_dir: str | os.PathLike, count: int = 12, frames: int = 24,
                          size: tuple[int, int] = (192, 128), seed: int = 0, fps: int = 25,
                          progress: bool = False) -> list[Path]:
    """Write `count` clips `leaves_SEED_NNN.mp4` of `frames` frames, `size` = (width, height), and
    return their paths.

    H.264, crf 10, 4:2:0, tagged BT.709. The same arguments give the same files. Raises InputError
    for counts below one and odd or tiny sizes. `progress` shows a bar on stderr."""
    for name, value in (("count", count), ("frames", frames)):
        if value < 1:
            raise InputError(f"{name}: found {value}, needed at least 1")
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in tqdm(range(count), desc="clips", unit="clip", disable=not progress):
        path = folder / f"leaves_{seed}_{number:03d}.mp4"
        # A prime: the clips of two seeds share no scene unless one asks for 100,003 of them.
        scene = Scene(seed * 100_003 + number, size)
        with VideoWriter(path, size, fps) as writer:
            for t in range(frames):
                writer.write(scene.frame(t))
        paths.append(path)
    return paths
