"""A source of drawn digits with their truth, and dials that disturb them.

Picture `n` of a seed is always the same with the same dials. Dials draw from random numbers of their own, so
turning one never changes what the picture shows, `mix` excepted.
"""

import random
from dataclasses import replace

from PIL import Image, ImageChops, ImageFilter

from camera_sim.sources.digits import draw_digit
from camera_sim.sources.picture import Picture, State
from camera_sim.sources.settings import DIGITS, SceneDials, VideoSettings
from edgekit import clock
from edgekit.frame.boxes import Box, to_text

SIDE = 28
DETECTION_SIDE = 160
_CELL = DETECTION_SIDE // 2  # one digit at most in each quarter: they do not overlap


class Scene:
    """An endless sequence of grey pictures, white on black: one digit, or several with their boxes."""

    unreadable = 0
    losses = 0
    retry_ns = 0

    def __init__(self, seed: int = 7, dials: SceneDials | None = None) -> None:
        self.state = State("streaming", since=clock.wall_ns())
        self._seed = seed
        self._dials = dials or SceneDials()
        self._number = 0
        self._dialled_at = 0  # the number of the first picture with these dials: brightness drifts from here
        self._last: Picture | None = None

    def __str__(self) -> str:
        return f"scene {self._seed}"

    def configure(self, scene: SceneDials, video: VideoSettings) -> None:
        """Put other dials in force; the sequence goes on."""
        if scene != self._dials:
            self._dials, self._dialled_at = scene, self._number

    def close(self) -> None:
        """Nothing: it has no threads."""

    def next(self) -> Picture:
        """The next picture."""
        number, self._number = self._number, self._number + 1
        dials, rng = self._dials, random.Random(f"dials:{self._seed}:{number}")
        freeze, black, dropped, corrupt = (rng.random() for _dial in range(4))
        if self._last is None or freeze >= dials.freeze:
            self._last = self._black(number) if black < dials.black else self.picture(number)
        if dropped < dials.dropped or corrupt < dials.corrupt:
            return replace(self._last, dropped=dropped < dials.dropped, damaged=corrupt < dials.corrupt)
        return self._last

    def picture(self, number: int) -> Picture:
        """Picture `number` of the sequence, with all dials but freeze, black, dropped and corrupt."""
        rng = random.Random(f"{self._seed}:{number}")
        noise = random.Random(f"noise:{self._seed}:{number}")
        if self._dials.task == "classification":
            label = _label(self._dials, rng)
            image, truth = draw_digit(label, rng, rotation=self._turn(noise)), label
        else:
            image, drawn = self._several(rng, noise)
            truth = to_text(drawn)
        return Picture(f"scene-{number}", self._disturbed(image, number, noise), truth)

    def _several(self, rng: random.Random, noise: random.Random) -> tuple[Image.Image, list[Box]]:
        image, drawn = Image.new("L", (DETECTION_SIDE, DETECTION_SIDE)), []
        for cell in sorted(rng.sample(range(4), rng.randint(1, 3))):
            label, side = _label(self._dials, rng), rng.randint(SIDE, _CELL)
            digit = draw_digit(label, rng, side=side, rotation=self._turn(noise))
            left = cell % 2 * _CELL + rng.randint(0, _CELL - side)
            top = cell // 2 * _CELL + rng.randint(0, _CELL - side)
            image.paste(digit, (left, top))
            x0, y0, x1, y1 = digit.getbbox() or (0, 0, side, side)
            sides = (left + x0, top + y0, left + x1, top + y1)
            drawn.append(Box(label, *(side / DETECTION_SIDE for side in sides)))
        return image, drawn

    def _turn(self, noise: random.Random) -> float:
        return noise.uniform(-self._dials.rotation, self._dials.rotation)

    def _disturbed(self, image: Image.Image, number: int, noise: random.Random) -> Image.Image:
        dials = self._dials
        if dials.blur:
            image = image.filter(ImageFilter.GaussianBlur(dials.blur))
        if dials.noise:
            grey = Image.frombytes("L", image.size, noise.randbytes(image.width * image.height))
            grey = grey.point([round(2 * dials.noise * value / 255) for value in range(256)])
            image = ImageChops.add(image, grey, 1, -dials.noise)
        shift = dials.brightness + dials.brightness_drift * (number - self._dialled_at) / 1_000
        if shift:
            image = image.point([min(255, max(0, round(value + shift))) for value in range(256)])
        return image

    def _black(self, number: int) -> Picture:
        side = SIDE if self._dials.task == "classification" else DETECTION_SIDE
        return Picture(f"scene-{number}", Image.new("L", (side, side)))


def _label(dials: SceneDials, rng: random.Random) -> str:
    weights = [dials.mix.get(digit, 0.0) for digit in DIGITS] if dials.mix else []  # type: ignore[call-overload]
    return rng.choices(DIGITS, weights)[0] if any(weights) else rng.choice(DIGITS)
