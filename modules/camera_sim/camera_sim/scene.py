"""A source of drawn digits, for a machine without pictures. The same seed always draws the same pictures."""

import math
import random

from PIL import Image, ImageDraw

from camera_sim.sources import Picture

SIDE = 28
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


class Scene:
    """An endless sequence of pictures, white on black, 28 x 28 pixels, grey."""

    unreadable = 0

    def __init__(self, seed: int = 7) -> None:
        self._seed = seed
        self._number = 0

    def __str__(self) -> str:
        return f"scene {self._seed}"

    def next(self) -> Picture:
        """The next picture."""
        picture = self.picture(self._number)
        self._number += 1
        return picture

    def picture(self, number: int) -> Picture:
        """Picture `number` of the sequence."""
        rng = random.Random(f"{self._seed}:{number}")
        digit = rng.choice("0123456789")
        return Picture(name=f"scene-{number}", image=_draw(digit, rng), truth=digit)


def _draw(digit: str, rng: random.Random) -> Image.Image:
    side = SIDE * _OVERSAMPLING
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    width = round(rng.uniform(2.0, 3.2) * _OVERSAMPLING)
    size, turn = side * rng.uniform(0.62, 0.76), math.radians(rng.uniform(-9, 9))
    middle = [side / 2 + _OVERSAMPLING * rng.uniform(-1.5, 1.5) for _axis in "xy"]
    for stroke in _STROKES[digit]:
        points = [_place(point, size, turn, middle) for point in stroke]
        draw.line(points, fill=255, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _place(point: Point, size: float, turn: float, middle: list[float]) -> Point:
    x, y = (point[0] - 0.5) * size, (point[1] - 0.5) * size
    return (
        middle[0] + x * math.cos(turn) - y * math.sin(turn),
        middle[1] + x * math.sin(turn) + y * math.cos(turn),
    )
