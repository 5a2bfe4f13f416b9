"""dashboard.pictures: what is kept, for how long, and what is no picture."""

from __future__ import annotations

import pytest

from dashboard.pictures import MAX_BYTES, MAX_PICTURE, BadPicture, Pictures
from tests.unit.dashboard.bodies import JPEG, preview_properties


def key(seq: int) -> str:
    """Camera, run and sequence number."""
    return f"door-0123456789abcdef-{seq}"


def test_a_picture_is_found_by_the_identity_of_its_frame() -> None:
    """The newest comes first."""
    pictures = Pictures()
    for seq in (1, 2):
        pictures.take(JPEG, preview_properties(seq, truth="cat"), float(seq))
    assert [each.key for each in pictures.newest_first()] == [key(2), key(1)]
    found = pictures.get(key(1))
    assert found is not None
    assert (found.body, found.truth, found.at_s) == (JPEG, "cat", 1.0)
    assert pictures.get(key(3)) is None


def test_all_pictures_together_have_at_most_two_megabytes() -> None:
    """The oldest go first; a repeated one is counted once."""
    pictures, large = Pictures(), JPEG + bytes(MAX_PICTURE - len(JPEG))
    for seq in [*range(100), 99, 99]:
        pictures.take(large, preview_properties(seq), 0.0)
        assert pictures.bytes == sum(len(each.body) for each in pictures.newest_first()) <= MAX_BYTES
    assert pictures.get(key(99)) is not None
    assert pictures.get(key(0)) is None
    assert MAX_BYTES == 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (b"", preview_properties()),
        (b"\x89PNG", preview_properties()),
        (b"<svg onload=alert(1)>", preview_properties()),
        (JPEG + bytes(MAX_PICTURE), preview_properties()),
        (JPEG, {}),
        (JPEG, preview_properties(camera="../etc")),
        (JPEG, preview_properties(run="x")),
        (JPEG, preview_properties() | {"seq": "-1"}),
        (JPEG, preview_properties() | {"seq": "\u0661"}),
        (JPEG, preview_properties() | {"seq": "9" * 5_000}),
    ],
    ids=range(10),
)
def test_what_is_no_preview_is_refused(body: bytes, properties: dict[str, str]) -> None:
    """Nothing is kept of it."""
    pictures = Pictures()
    with pytest.raises(BadPicture, match=r"^preview: "):
        pictures.take(body, properties, 0.0)
    assert (list(pictures.newest_first()), pictures.bytes) == ([], 0)
