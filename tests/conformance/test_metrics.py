"""Statement 94: /metrics, parsed as the IoT Edge metrics collector does."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]

# The grammar of the collector (ref 9): name, labels with \" \\ \n, a number or NaN, no infinity.
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    rf"(?:\{{(?P<labels>{LABEL}(?:,{LABEL})*),?\}})?"
    r" +(?P<value>[-+]?(?:[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?)|NaN)(?: +[0-9]+)?"
)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("sender", "receiver")
        yield running


def scrape(hub: HubUnderTest, module: str) -> str:
    """Read a page from the address in endpoints.json."""
    url = json.loads((hub.folder / "endpoints.json").read_text())["metrics"][DEVICE][module]
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def read(page: str) -> Samples:
    """Parse a page as the collector does: each line except comments must match; labels are unescaped."""
    samples: Samples = {}
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match["labels"] or "")
        samples[match["name"], frozenset(labels)] = float(match["value"])
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(n for (each, has), n in samples.items() if each == name and set(labels.items()) <= has)


def test_94_the_collector_can_read_the_metrics(hub: HubUnderTest) -> None:
    """Every line parses, no value is infinite, counters end in _total, all have the product's labels.

    And what they say is what happened: a message each way, one without a route, a twin read and patched.
    """
    with hub.module("receiver") as receiver, hub.module("sender") as sender:
        receiver.call("listen", kind="message")
        sender.send("work", b"1")
        receiver.next("message")
        sender.send("nowhere", b"2")
        sender.call("get_twin")
        sender.call("report", patch={"a": 1})
        wait_for(
            lambda: value(read(scrape(hub, "edgeHub")), "edgehub_messages_sent_total") == 1, "the PUBACK"
        )
        page = scrape(hub, "edgeHub")
    samples = read(page)
    assert "Inf" not in page
    for kind in re.findall(r"# TYPE (\S+) counter", page):
        assert kind.endswith("_total")
    for _, labels in samples:
        assert dict(labels)["iothub"] == hub.hub_address
        assert dict(labels)["edge_device"] == DEVICE
        assert "instance_number" in dict(labels)
    sender_id, receiver_id = f"{DEVICE}/sender", f"{DEVICE}/receiver"
    assert value(samples, "edgehub_connected_clients") == 2
    assert value(samples, "edgehub_client_connect_success_total", id=sender_id) == 1
    assert value(samples, "edgehub_messages_received_total", id=sender_id, route_output="work") == 1
    assert value(samples, "edgehub_messages_sent_total", to=receiver_id, to_route_input="work") == 1
    assert (
        value(samples, "edgehub_messages_dropped_total", reason="no_route") == 2
    )  # the report is one of them
    assert value(samples, "edgehub_gettwin_total", id=sender_id) == 1
    assert value(samples, "edgehub_reported_properties_total", id=sender_id) == 1
    agent = read(scrape(hub, "edgeAgent"))
    assert value(agent, "edgeAgent_host_uptime_seconds") > 0
    assert value(agent, "edgeAgent_total_memory_bytes", module_name="host") > 0


def test_endpoints_has_only_loopback_addresses(hub: HubUnderTest) -> None:
    """The metrics pages are on the address of the edge device."""
    urls = json.loads((hub.folder / "endpoints.json").read_text())["metrics"][DEVICE]
    assert all(url.startswith(f"http://{hub.gateway}:") for url in urls.values())
    assert Path(urls["edgeAgent"]).name == "metrics"
