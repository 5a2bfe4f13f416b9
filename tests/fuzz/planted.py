"""Targets with a planted defect, which shows only for the input `!`: the counter-proof of the fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.fuzz.target import Case, Promised, Target

MORE_THAN_ALLOWED_BYTES: Final = 800 << 20


def _on_mark(defect: Callable[[], object]) -> Target:
    def case(data: bytes) -> None:
        if data == b"!":
            defect()
        raise ValueError("promised")

    def prepare() -> tuple[Case, Promised]:
        return case, (ValueError,)

    return Target(prepare, ())


def _hang() -> None:
    while True:
        pass


def _hold_memory() -> None:
    held = bytearray(MORE_THAN_ALLOWED_BYTES)
    while held:
        pass


PLANTED: Final = {
    "planted-exception": _on_mark(lambda: [][0]),
    "planted-hang": _on_mark(_hang),
    "planted-memory": _on_mark(_hold_memory),
}
