"""The desired section `model`: parsing, errors for each field, and its size in a twin."""

import base64
import contextlib
import copy
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model_section import (
    MAX_INLINE_CHARACTERS,
    DoesNotFit,
    Inline,
    InvalidSection,
    ModelRef,
    Uri,
    digest,
    parse,
    section_for,
    twin_bytes,
)
from tests.unit.inference.fixtures.device import Publisher

DATA = bytes(range(256)) * 8 + random.Random(0).randbytes(9000)
REF = Publisher().ref(DATA)


def section() -> dict[str, Any]:
    return section_for(REF, DATA)


def with_parts(**parts: str | None) -> dict[str, Any]:
    """The section with some chunks replaced; None removes a chunk."""
    changed = copy.deepcopy(section())
    held = changed["source"]["inline"]["parts"]
    for name, text in parts.items():
        held[name.removeprefix("p")] = text
        if text is None:
            del held[name.removeprefix("p")]
    return changed


def errors(wanted: object) -> dict[str, str]:
    with pytest.raises(InvalidSection) as raised:
        parse(wanted)
    assert "\n" not in str(raised.value)
    return raised.value.errors


def test_a_published_section_can_be_parsed() -> None:
    """The section carries the reference and the artefact, byte for byte."""
    section = parse(section_for(REF, DATA, attempt=3))
    assert section.ref == REF
    assert section.attempt == 3
    assert isinstance(section.source, Inline)
    assert section.source.inflate(REF.size) == DATA


def test_the_signed_bytes_have_this_format() -> None:
    """Signer and verifier must agree on every byte."""
    ref = ModelRef("digits", "1.2.0", 25900, "ab" * 32)
    assert ref.signed_bytes() == b"twinship-model-v1\ndigits\n1.2.0\n25900\n" + b"ab" * 32 + b"\n"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"version": None}, "version"),
        ({"version": 1}, "version"),
        ({"size": "12"}, "size"),
        ({"size": True}, "size"),
        ({"size": 0}, "size"),
        ({"sha256": "AB" * 32}, "sha256"),
        ({"sha256": "ab" * 31}, "sha256"),
        ({"signature": 1}, "signature"),
        ({"attempt": -1}, "attempt"),
        ({"source": None}, "source"),
        ({"source": {}}, "source"),
        ({"source": {"inline": {}}}, "source.inline.count"),
        ({"source": {"inline": {"encoding": "lzma", "count": 1, "parts": {}}}}, "source.inline.encoding"),
        ({"source": {"uri": "http://plain"}}, "source.uri"),
        ({"source": {"uri": "https://a b"}}, "source.uri"),
        ({"source": {"uri": "https://user:word@a/b"}}, "source.uri"),
        ({"source": {"uri": "https://a:99999/b"}}, "source.uri"),
        ({"source": {"uri": "https://[a/b"}}, "source.uri"),
        ({"source": {"uri": "https:///b"}}, "source.uri"),
        ({"source": {"uri": "file:///b"}}, "source.uri"),
    ],
)
def test_each_wrong_field_is_named(change: dict[str, Any], path: str) -> None:
    """The error has the path of the wrong field."""
    assert path in errors({**section(), **change})


@pytest.mark.parametrize("wanted", [1, "model", [], {}, {"name": 1}, True])
def test_other_json_values_are_refused(wanted: object) -> None:
    """A twin may hold any JSON value."""
    assert errors(wanted)


def test_two_sources_at_once_are_refused() -> None:
    """A merge patch may leave the other source in the twin."""
    both = section()
    both["source"]["uri"] = "https://example.com/model.tflite"
    assert errors(both) == {"source": "needs exactly one of inline and uri"}


def test_an_address_is_parsed() -> None:
    """`source.uri` names an https address."""
    wanted = {**section(), "source": {"uri": "https://example.com/m.tflite?sig=x"}}
    assert parse(wanted).source == Uri("https://example.com/m.tflite?sig=x")


@pytest.mark.parametrize(
    ("parts", "path", "word"),
    [
        ({"p01": None}, "01", "missing"),
        ({"p09": "AAAA"}, "09", "extra"),
        ({"pxx": "AAAA"}, "xx", "extra"),
        ({"p00": "A" * 4097}, "00", "overlong"),
        ({"p00": "ä" * 2049}, "00", "overlong"),
        ({"p00": "A A="}, "00", "base64"),
        ({"p00": "AA=="}, "00", "base64"),
        ({"p01": "*"}, "01", "base64"),
        ({"p01": "\ud800"}, "01", "base64"),
    ],
)
def test_each_wrong_chunk_is_named(parts: dict[str, str | None], path: str, word: str) -> None:
    """Missing, extra, overlong and undecodable chunks have different errors."""
    assert word in errors(with_parts(**parts))[f"source.inline.parts.{path}"]


def test_a_wrong_count_names_the_chunks() -> None:
    """With too large a count chunks are missing, with too small a count chunks are extra."""
    more, less = section(), section()
    count = more["source"]["inline"]["count"]
    more["source"]["inline"]["count"] = count + 1
    less["source"]["inline"]["count"] = count - 1
    assert errors(more) == {f"source.inline.parts.{count:02}": "missing"}
    assert "extra" in errors(less)[f"source.inline.parts.{count - 1:02}"]


def test_inflating_stops_one_byte_past_the_size() -> None:
    """A decompression bomb takes no more memory than `size` bytes."""
    bomb = base64.b64encode(zlib.compress(bytes(20_000_000), 9)).decode()
    assert len(Inline((bomb,)).inflate(1000)) == 1001


@pytest.mark.parametrize("text", ["AAAA", "A", "eJwDAAA"])
def test_chunks_that_are_no_zlib_stream_are_refused(text: str) -> None:
    """The error names the chunks."""
    with pytest.raises(InvalidSection, match=r"source\.inline\.parts"):
        Inline((text,)).inflate(10)


def test_a_large_artefact_does_not_fit() -> None:
    """The error holds the size and the limit."""
    with pytest.raises(DoesNotFit) as raised:
        section_for(REF, random.Random(0).randbytes(22_000))
    assert raised.value.characters > raised.value.limit == MAX_INLINE_CHARACTERS


def test_every_string_of_a_section_fits_a_twin() -> None:
    """No chunk is longer than IoT Hub allows for a string."""
    parts = section()["source"]["inline"]["parts"]
    assert max(map(len, parts.values())) <= 4096


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        (None, 0),
        (True, 4),
        (7, 8),
        (0.5, 8),
        ("ä", 2),
        ({"ab": "cd", "e": 1}, 2 + 2 + 1 + 8),
        ({"a": {"b": [1, True, "x"]}}, 1 + 1 + 8 + 4 + 1),
    ],
)
def test_the_size_of_a_twin_is_counted_as_the_hub_does(value: object, weight: int) -> None:
    """Keys and strings in UTF-8 bytes, numbers 8, booleans 4."""
    assert twin_bytes(value) == weight


def test_the_digest_is_of_the_content_not_of_the_order() -> None:
    """The hub may change the order of keys; a changed attempt is another section."""
    wanted = section()
    assert digest(wanted) == digest(dict(reversed(wanted.items())))
    assert digest(wanted) != digest({**wanted, "attempt": 2})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*section(), "source.inline", "source.inline.parts"]), json_values)
def test_parse_raises_only_invalid_section(path: str, value: object) -> None:
    """Whatever a twin holds, parse raises no other error."""
    wanted = copy.deepcopy(section())
    *above, last = path.split(".")
    place: Any = wanted
    for key in above:
        place = place[key]
    place[last] = value
    digest(wanted)
    with contextlib.suppress(InvalidSection):
        parse(wanted)
