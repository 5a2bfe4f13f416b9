"""The options of the hub process for its event endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinship.simulator.hub_options import HubError, HubOptions, parse


def options(folder: Path, *more: str) -> HubOptions:
    """Parse a complete command line with these options more."""
    fixed = ("--folder", str(folder), "--hub-address", "127.16.0.1", "--edge", "edge=127.16.0.2")
    return parse([*fixed, *more])[0]


def test_the_event_endpoint_has_azures_defaults(tmp_path: Path) -> None:
    """One consumer group, one day, TLS only; options add to that."""
    default = options(tmp_path)
    assert (default.consumer_groups, default.retention_s, default.plain_amqp) == (
        ("$Default",),
        86_400,
        False,
    )
    more = options(
        tmp_path, "--consumer-group=a", "--consumer-group=b", "--retention-hours=1", "--plain-amqp"
    )
    assert more.consumer_groups == ("$Default", "a", "b")
    assert (more.retention_s, more.plain_amqp) == (3_600, True)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--consumer-group=a/b", "letters, digits"),
        ("--consumer-group=", "letters, digits"),
        ("--consumer-group=" + "x" * 51, "letters, digits"),
        ("--retention-hours=0", "above 0"),
        ("--retention-hours=nan", "above 0"),
    ],
)
def test_a_bad_option_is_one_line(tmp_path: Path, option: str, text: str) -> None:
    """It names the option."""
    with pytest.raises(HubError, match=text) as error:
        options(tmp_path / "never", option)
    assert option.partition("=")[0] in str(error.value)
    assert not (tmp_path / "never").exists()
