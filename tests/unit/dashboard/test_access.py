"""dashboard.access and .settings: who may see the page."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dashboard.access import MAX_FAILURES, WITHIN_S, Access, Request, Verdict
from dashboard.settings import KEPT_IN, DashboardEnvironment, SettingsError

TOKEN = "correct horse battery"


def locked(*hosts: str) -> Access:
    """A server that needs the token."""
    return Access(TOKEN, frozenset(hosts))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8780", "localhost", "LOCALHOST:1", "[::1]:8780", "edge.lan:8780"]
)
def test_a_host_on_the_list_is_served(host: str) -> None:
    """Whatever its port, which a container may map."""
    assert Access(None, frozenset({"edge.lan"})).decide(Request(host), 0) is Verdict.ALLOWED


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8780", "127.0.0.1.evil.example", "evil@127.0.0.1", "127.0.0.1/x",
     "127.0.0.1:x", "[::1", "localhost,evil.example", "127.0.0.1:8780#@evil.example"],
)  # fmt: skip
def test_another_host_is_refused_even_with_the_token(host: str) -> None:
    """DNS rebinding: the browser believes that it talks to the stranger's site."""
    assert Access(None, frozenset()).decide(Request(host), 0) is Verdict.FOREIGN_HOST
    assert locked().decide(Request(host, query=TOKEN), 0) is Verdict.FOREIGN_HOST


def test_the_token_opens_the_page_and_becomes_a_cookie() -> None:
    """The cookie is not the token, and the token is no cookie."""
    rules = locked()
    assert rules.decide(Request("localhost"), 0) is Verdict.NO_TOKEN
    assert rules.decide(Request("localhost", query=TOKEN), 0) is Verdict.WELCOME
    assert rules.decide(Request("localhost", bearer=TOKEN), 0) is Verdict.ALLOWED
    assert rules.decide(Request("localhost", cookie=rules.cookie), 0) is Verdict.ALLOWED
    assert TOKEN not in rules.cookie
    for request in (Request("localhost", cookie=TOKEN), Request("localhost", query=rules.cookie)):
        assert rules.decide(request, 0) is Verdict.NO_TOKEN


def test_five_wrong_tokens_a_minute_and_the_next_is_not_compared() -> None:
    """Not even the right one; who has the cookie goes on. After the minute a token is compared again."""
    rules = locked()
    for second in range(MAX_FAILURES):
        assert rules.decide(Request("localhost", query="wrong"), second) is Verdict.NO_TOKEN
    assert rules.decide(Request("localhost", query=TOKEN), WITHIN_S - 1) is Verdict.TOO_MANY
    assert rules.decide(Request("localhost", cookie=rules.cookie), 5) is Verdict.ALLOWED
    assert rules.decide(Request("localhost", query=TOKEN), WITHIN_S) is Verdict.WELCOME


def test_visits_without_a_token_are_no_failures() -> None:
    """A browser asks for several files at once."""
    rules = locked()
    for _ in range(20):
        assert rules.decide(Request("localhost"), 0) is Verdict.NO_TOKEN
    assert rules.decide(Request("localhost", query=TOKEN), 0) is Verdict.WELCOME


def test_a_token_of_any_characters_is_compared() -> None:
    """Lone surrogates, as a header may hold them, do not end the comparison with an error."""
    assert locked().decide(Request("localhost", bearer="\udc80é"), 0) is Verdict.NO_TOKEN


# Settings


def test_loopback_is_the_default_and_needs_no_token(tmp_path: Path) -> None:
    """Nothing is written."""
    read = DashboardEnvironment.read({"DATA_FOLDER": str(tmp_path), "DASHBOARD_TOKEN": "$DASHBOARD_TOKEN"})
    assert (read.address, read.port, read.token) == ("127.0.0.1", 8780, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:8780", "192.168.1.5:80", "[::]:8780"])
def test_any_other_address_makes_a_token_that_only_the_owner_can_read(listen: str, tmp_path: Path) -> None:
    """The next process finds the same one."""
    environment = {"DASHBOARD_LISTEN": listen, "DATA_FOLDER": str(tmp_path)}
    first = DashboardEnvironment.read(environment)
    path = tmp_path / KEPT_IN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.token is not None
    assert len(first.token) >= 40
    path.chmod(0o644)
    assert DashboardEnvironment.read(environment).token == first.token == path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.token not in repr(first)


def test_an_empty_token_file_is_written_again(tmp_path: Path) -> None:
    """An empty token would let everybody in."""
    (tmp_path / KEPT_IN).write_text("")
    read = DashboardEnvironment.read({"DASHBOARD_LISTEN": "0.0.0.0:1", "DATA_FOLDER": str(tmp_path)})
    assert read.token == (tmp_path / KEPT_IN).read_text().strip() != ""


def test_a_token_of_the_environment_is_needed_on_loopback_too() -> None:
    """Who sets one wants one."""
    assert DashboardEnvironment.read({"DASHBOARD_TOKEN": TOKEN}).token == TOKEN


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DASHBOARD_LISTEN", "8780"),
        ("DASHBOARD_LISTEN", "edge.lan:8780"),
        ("DASHBOARD_LISTEN", "127.0.0.1:65536"),
        ("DASHBOARD_LISTEN", "300.0.0.1:80"),
        ("DASHBOARD_TOKEN", "short"),
        ("DASHBOARD_HOSTS", "edge.lan, http://x/"),
    ],
)
def test_an_invalid_variable_is_named_with_its_cure(variable: str, value: str) -> None:
    """And a token is not repeated in the error."""
    with pytest.raises(SettingsError, match=f"^{variable}.*cure: ") as caught:
        DashboardEnvironment.read({variable: value})
    assert "short'" not in str(caught.value)


def test_a_token_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    """The page is not served without one."""
    environment = {"DASHBOARD_LISTEN": "0.0.0.0:8780", "DATA_FOLDER": str(tmp_path / "missing")}
    with pytest.raises(SettingsError, match="cure: set DASHBOARD_TOKEN"):
        DashboardEnvironment.read(environment)


def test_names_and_the_own_address_are_on_the_list_of_hosts() -> None:
    """In lower case; 0.0.0.0 is no name of anybody."""
    environment = {"DASHBOARD_HOSTS": "Edge.LAN, 10.0.0.7", "DASHBOARD_TOKEN": TOKEN}
    assert DashboardEnvironment.read(environment).hosts == {"edge.lan", "10.0.0.7", "127.0.0.1"}
    everywhere = environment | {"DASHBOARD_LISTEN": "0.0.0.0:1"}
    assert DashboardEnvironment.read(everywhere).hosts == {"edge.lan", "10.0.0.7"}
