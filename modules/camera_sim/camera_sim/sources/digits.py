"""Draws digits with strokes, white on black. The same random state draws the same picture."""

import math
import random

from PIL import Image, ImageDraw

_OVERSAMPLING = 4  # Pillow draws lines without anti-aliasing

Point = tuple[float, float]


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Points of an arc of an ellipse; angles in degrees clockwise from three o'clock."""
    steps = max(2, round(abs(end - start) / 15))
    turns = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + rx * math.cos(turn), y + ry * math.sin(turn)) for turn in turns]


# Strokes of each digit in a square of side 1, y downwards.
_STROKES: dict[str, list[list[Point]]] = {
    "0": [_arc(0.5, 0.5, 0.3, 0.42, 0, 360)],
    "1": [[(0.35, 0.25), (0.55, 0.08), (0.55, 0.92)]],
    "2": [[*_arc(0.5, 0.32, 0.28, 0.24, 190, 390), (0.22, 0.92), (0.8, 0.92)]],
    "3": [_arc(0.47, 0.29, 0.26, 0.21, 200, 450), _arc(0.47, 0.71, 0.29, 0.21, 270, 520)],
    "4": [[(0.62, 0.92), (0.62, 0.08), (0.2, 0.64), (0.82, 0.64)]],
    "5": [[(0.76, 0.08), (0.3, 0.08), (0.27, 0.46), *_arc(0.48, 0.65, 0.28, 0.26, 230, 510)]],
    "6": [[(0.66, 0.08), (0.36, 0.4), *_arc(0.5, 0.66, 0.26, 0.25, 190, 550)]],
    "7": [[(0.2, 0.1), (0.8, 0.1), (0.42, 0.92)]],
    "8": [_arc(0.5, 0.29, 0.23, 0.2, 0, 360), _arc(0.5, 0.71, 0.28, 0.21, 0, 360)],
    "9": [[*_arc(0.5, 0.34, 0.25, 0.25, 20, 380), (0.62, 0.92)]],
}


def draw_digit(digit: str, rng: random.Random, *, side: int = 28, rotation: float = 0) -> Image.Image:
    """The digit on a square of `side` pixels, grey, turned by up to 9 degrees and by `rotation` besides."""
    big = side * _OVERSAMPLING
    image = Image.new("L", (big, big))
    draw = ImageDraw.Draw(image)
    unit = big / 28
    width = round(rng.uniform(2.0, 3.2) * unit)
    size, turn = big * rng.uniform(0.62, 0.76), math.radians(rng.uniform(-9, 9) + rotation)
    middle = [big / 2 + unit * rng.uniform(-1.5, 1.5) for _axis in "xy"]
    for stroke in _STROKES[digit]:
        points = [_place(point, size, turn, middle) for point in stroke]
        draw.line(points, fill=255, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return image.resize((side, side), Image.Resampling.BOX)


def _place(point: Point, size: float, turn: float, middle: list[float]) -> Point:
    x, y = (point[0] - 0.5) * size, (point[1] - 0.5) * size
    return (
        middle[0] + x * math.cos(turn) - y * math.sin(turn),
        middle[1] + x * math.sin(turn) + y * math.cos(turn),
    )
