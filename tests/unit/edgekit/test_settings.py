"""Validation of twin sections, and the answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgekit.settings import validate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


class Knobs(BaseModel):
    """A section like those of the modules."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    rate: float = Field(default=10, gt=0)
    name: str = "x"

    @field_validator("name")
    @classmethod
    def _odd(cls, name: str) -> str:
        if name == "boom":
            raise RuntimeError("boom")
        return name


LAST = Knobs(rate=3)


def test_a_valid_section_is_accepted() -> None:
    """The answer holds the settings in force, 200 and the desired version."""
    settings, answer = validate({"rate": 5}, Knobs, LAST)
    assert settings == Knobs(rate=5)
    assert answer.reported("camera", 12) == {
        "camera": {"value": {"rate": 5, "name": "x"}, "ac": 200, "av": 12, "ad": ""}
    }


def test_an_invalid_field_keeps_all_settings() -> None:
    """No part of the section is applied, and the answer names each invalid field."""
    settings, answer = validate({"rate": -1, "name": 5, "nmae": "y"}, Knobs, LAST)
    assert settings is LAST
    assert answer.ac == 400
    assert answer.value == {"rate": 3, "name": "x"}
    assert all(f"{field}: " in answer.ad for field in ("rate", "name", "nmae"))


def test_an_absent_section_changes_nothing() -> None:
    """A manifest that is applied again may omit a section."""
    settings, answer = validate(None, Knobs, LAST)
    assert settings is LAST
    assert answer.accepted


@pytest.mark.parametrize("section", [[], "fps", 3, True])
def test_a_section_must_be_an_object(section: object) -> None:
    """The answer names the type that it has."""
    settings, answer = validate(section, Knobs, LAST)
    assert settings is LAST
    assert answer.ac == 400
    assert type(section).__name__ in answer.ad


def test_a_validator_that_raises_refuses_the_section() -> None:
    """An unexpected exception in a validator becomes the answer."""
    settings, answer = validate({"name": "boom"}, Knobs, LAST)
    assert settings is LAST
    assert (answer.ac, answer.ad) == (400, "RuntimeError: boom")


def test_a_long_list_of_errors_fits_into_a_reported_string() -> None:
    """The hub refuses a reported string over 4,096 bytes, so the answer is cut."""
    _settings, answer = validate({f"field{number}" + "ü" * 500: 1 for number in range(50)}, Knobs, LAST)
    assert len(answer.ad.encode()) <= 1_024


@given(JSON)
def test_validate_never_raises(section: Any) -> None:
    """Any JSON value is accepted or refused."""
    settings, answer = validate(section, Knobs, LAST)
    assert answer.accepted or settings is LAST
