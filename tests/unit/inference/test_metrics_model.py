"""metrics.json: its JSON names, and that foreign documents are not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from inference.metrics_model import METRICS, Cost, InlineSize, read_results


def test_json_names_are_camel_case() -> None:
    """The JSON of a part reads back as the same part."""
    cost = Cost(p50_ms=0.5, memory_bytes=1_000)
    text = cost.model_dump_json(by_alias=True)
    assert text == '{"p50Ms":0.5,"memoryBytes":1000}'
    assert Cost.model_validate_json(text) == cost


def test_unknown_fields_and_infinite_numbers_are_errors() -> None:
    """A document of another version is not half understood."""
    with pytest.raises(ValidationError):
        InlineSize.model_validate({"characters": 1, "limit": 2, "fits": True, "more": 0})
    with pytest.raises(ValidationError):
        Cost(p50_ms=float("inf"), memory_bytes=0)


@pytest.mark.parametrize("text", [None, "", "{}", '{"schema": "twinship.metrics.v2"}'])
def test_a_folder_without_results_has_none(tmp_path: Path, text: str | None) -> None:
    """No file, an empty one, or another schema."""
    if text is not None:
        (tmp_path / METRICS).write_text(text)
    assert read_results(tmp_path) is None
