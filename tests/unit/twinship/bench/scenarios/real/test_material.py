"""The photographs of scenario `real`."""

from pathlib import Path

from PIL import Image

from edgekit.frame.message import MAX_BODY_BYTES
from twinship.bench.scenarios.real.material import HEIGHT, PHOTOGRAPHS, WIDTH, photographs
from twinship.bench.scenarios.real.scenario import BATCH


def test_the_photographs_are_the_same_on_every_machine_and_a_batch_fits_into_a_message(
    tmp_path: Path,
) -> None:
    """Another seed cuts out other parts."""
    first, again, other = (
        [path.read_bytes() for path in photographs(tmp_path / name, seed)]
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again
    assert first != other
    assert len(set(first)) == PHOTOGRAPHS
    with Image.open(tmp_path / "first" / "0000.jpg") as picture:
        assert picture.size == (WIDTH, HEIGHT)
    in_turn = [*first, *first]
    messages = [sum(map(len, in_turn[at : at + BATCH])) for at in range(PHOTOGRAPHS)]
    assert max(messages) < MAX_BODY_BYTES - 1_024 * BATCH
