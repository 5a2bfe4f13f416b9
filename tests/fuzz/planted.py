"""Targets with a planted defect: the counter-proof of the fuzzer. Two of them show only for the input `!`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.fuzz.target import Case, Promised, Target

KEPT_BYTES: Final = 1 << 20  # by each case of planted-memory


def _target(defect: Callable[[bytes], object]) -> Target:
    def case(data: bytes) -> None:
        defect(data)
        raise ValueError("promised")

    def prepare() -> tuple[Case, Promised]:
        return case, (ValueError,)

    return Target(prepare, (), max_bytes=8)


def _raise(data: bytes) -> None:
    if data == b"!":
        raise IndexError("planted")


def _hang(data: bytes) -> None:
    while data == b"!":
        pass


_kept: Final[list[bytes]] = []


def _keep(data: bytes) -> None:
    _kept.append(b"k" * KEPT_BYTES)


PLANTED: Final = {
    "planted-exception": _target(_raise),
    "planted-hang": _target(_hang),
    "planted-memory": _target(_keep),
}
