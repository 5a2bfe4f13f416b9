"""Writes the corpus, from which the fuzzer starts: `python -m tests.fuzz.make_corpus`.

Each target has inputs that its parser accepts, and some that it refuses late. All are made here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from edgekit.frame import batch
from edgekit.frame.message import RAW, Flow, Frame, FrameId
from inference import artefact, model_section
from tests.fuzz.campaign import CORPUS
from tests.fuzz.device_targets import MEMBERS
from tests.fuzz.make_amqp import conversations
from tests.fuzz.make_pictures import pictures
from tests.fuzz.simulator_targets import HUB, KEY
from tests.fuzz.target import SEPARATOR
from twinship.simulator import sas
from twinship.simulator.iot_hub.query.language import parse_query
from twinship.simulator.iot_hub.query.rows import page, rows
from twinship.simulator.mqtt.packets import (
    Connect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
)

Files = Mapping[str, bytes]

FILLER_KEY: Final = "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw"  # as long as the registry wants a key
RUN: Final = "0123456789abcdef"
TELEMETRY: Final = "devices/edge/modules/a/messages/events/"


def corpus() -> dict[str, Files]:
    """The files of each target by name."""
    return {
        "frame": _frames(),
        "batch": _batches(),
        "picture": pictures(),
        "artefact": _artefacts(),
        "section": _sections(),
        "mqtt": _streams(),
        "amqp": conversations(),
        "client": _conversations(),
        "topic": _topics(),
        "sas": _tokens(),
        "connect": {
            "tunnel": b"CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: 127.0.0.1:443\r\n\r\n",
            "get": b"GET / HTTP/1.1\r\n\r\n",
        },
        "http": _requests(),
        "route": _routes(),
        "query": _queries(),
        "manifest": _manifests(),
        "env": _settings(),
    }


def _joined(*parts: str | bytes) -> bytes:
    return SEPARATOR.join(part if isinstance(part, bytes) else part.encode() for part in parts)


def _frame(seq: int, truth: str | None = None) -> Frame:
    frame_id = FrameId("camera", RUN, seq)
    return Frame(frame_id, bytes(range(12)), RAW, 2, 2, 3, 1_700_000_000_000_000_000, 5, 6, "boot", truth)


def _frames() -> Files:
    bag = "&".join(f"{name}={value}" for name, value in _frame(7, "cat").properties().items())
    return {
        "raw": _joined(bag, RAW, bytes(12)),
        "png": _joined(bag, "image/png", "any bytes"),
        "flow": _joined("", "application/json", Flow("camera", RUN, 7).to_message().body),
        "fresh": _joined("", "application/json", Flow.fresh().to_message().body),
    }


def _batches() -> Files:
    one, two, three = (batch.encode(_frame(seq)) for seq in (1, 2, 10**18))
    header = one[4 : 4 + int.from_bytes(one[:4], "big")]
    return {
        "parts": _joined(header, bytes(12)),
        "one": one,
        "three": one + two + three,
        "twice": one + one,
        "cut": (one + two)[:-5],
    }


def _artefact() -> artefact.Artefact:
    manifest = artefact.Manifest(
        name="digits",
        version="1.0.0",
        architecture="micro",
        input=artefact.InputSpec(height=2, width=2, channels=1),
        latencyBudgetMs=5,
        minimumRuntime={"tflite-runtime": "2.14"},
        metrics={"accuracy": 0.5},
    )
    probes = artefact.Probes(bytes(8), expected=("cat", "dog"))
    return artefact.read(artefact.pack(b"....TFL3" + bytes(8), manifest, ["cat", "dog"], probes))


def _artefacts() -> Files:
    whole = _artefact()
    members = (
        whole.manifest.model_dump_json(by_alias=True),
        "cat\ndog\n",
        json.dumps({"expected": ["cat", "dog"]}),
        bytes(8),
    )
    assert len(members) == len(MEMBERS)
    disks = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 2) + struct.pack("<4s18x", b"PK\5\6")
    return {
        "whole": whole.data,
        "members": _joined(whole.tflite, *members),
        "cut": whole.data[:-30],
        "disks": _joined(whole.tflite + disks, *members),  # zipfile raises where it only looks
    }


def _sections() -> Files:
    whole = _artefact()
    ref = model_section.ModelRef("digits", "1.0.0", whole.size, whole.sha256, "c2ln", "0123456789abcdef")
    small = model_section.ModelRef("digits", "1.0.0", 3, "aa" * 32)
    inline, uri = model_section.section_for(small, b"abc"), "https://models.example/a.tflite?sig=x"
    parts = inline["source"]["inline"]["parts"]["00"]
    halves = {"encoding": "zlib+base64", "count": 2, "parts": {"00": parts[:4], "01": parts[4:]}}
    shown = {
        "inline": inline,
        "halves": inline | {"source": {"inline": halves}},
        "bomb": model_section.section_for(small, bytes(10_000)),
        "uri": model_section.section_at(ref, uri, attempt=3),
        "both": inline | {"source": inline["source"] | {"uri": uri}},
        "none": inline | {"source": {}, "attempt": -1, "size": 0, "name": "a b"},
    }
    return {name: json.dumps(section).encode() for name, section in shown.items()}


def _streams() -> Files:
    will = Will("last/words", b"gone", 1, True)
    packets: dict[str, Packet] = {
        "connect": Connect("d/m", "u", b"p", 60),
        "will": Connect("c", will=will, clean_session=True),
        "publish": Publish("a/b", b"body", 1, 10),
        "retained": Publish("ü", b"\0\xff", 1, 65535, True, True),
        "qos0": Publish("a", b""),
        "puback": Puback(1),
        "subscribe": Subscribe(2, (("a/#", 1), ("b", 0))),
        "unsubscribe": Unsubscribe(3, ("a", "b")),
        "pingreq": Pingreq(),
    }
    encoded = {name: b"\x03" + packet.encode() for name, packet in packets.items()}
    together = b"".join(packet.encode() for packet in packets.values())
    others = b"\x20\x02\x01\x00\x90\x04\x00\x02\x01\x80\xb0\x02\x00\x03\xd0\x00\xe0\x00"
    return {**encoded, "together": b"\x05" + together, "others": b"\x00" + others}


def _conversations() -> Files:
    inputs = Subscribe(1, (("devices/edge/modules/a/inputs/#", 1),)).encode()
    twin = Subscribe(2, (("$iothub/twin/res/#", 0), ("$iothub/twin/PATCH/properties/desired/#", 0))).encode()
    methods = Subscribe(3, (("$iothub/methods/POST/#", 0),)).encode()

    def sent(topic: str, body: bytes = b"", packet_id: int = 9) -> bytes:
        return Publish(topic, body, 1, packet_id).encode()

    return {
        "telemetry": inputs + sent(f"{TELEMETRY}%24.on=o&k=v", b"body") + sent(TELEMETRY, b"", 10),
        "twin": twin + sent("$iothub/twin/GET/?$rid=1"),
        "reported": twin + sent("$iothub/twin/PATCH/properties/reported/?$rid=2", b'{"a":{"b":1,"c":null}}'),
        "method": methods + sent("$iothub/methods/res/200/?$rid=7", b'{"a":1}') + Pingreq().encode(),
        "others": Unsubscribe(4, ("devices/edge/modules/a/inputs/#",)).encode() + Puback(5).encode(),
    }


def _topics() -> Files:
    inputs = "devices/edge/modules/a/inputs/#"
    return {
        "telemetry": _joined(f"{TELEMETRY}%24.on=o&%24.ct=a%2Fb&k=a%20b&%C3%BC=", inputs),
        "device": _joined("devices/edge/messages/events/%24.mid=7", "devices/edge/messages/devicebound/#"),
        "get": _joined("$iothub/twin/GET/?$rid=1", "$iothub/twin/res/#"),
        "patch": _joined("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=2", "$iothub/+/res/#"),
        "method": _joined("$iothub/methods/res/200/?$rid=1", "$iothub/methods/POST/#"),
    }


def _tokens() -> Files:
    later = 2_000_000_000
    texts = {
        "policy": sas.sign(KEY, HUB, later, "iothubowner"),
        "device": sas.sign(KEY, f"{HUB}/devices/edge", later),
        "expired": sas.sign(KEY, HUB, 1),
        "stranger": sas.sign(KEY, "other.example", later),
        "forged": sas.sign("c2VjcmV0", HUB, later),
        "port": sas.sign(KEY, "HUB.example:8443", later),
    }
    return {name: text.encode() for name, text in texts.items()}


def _requests() -> Files:
    def sent(line: str, body: Any = None, headers: str = "") -> bytes:
        return _joined(line, headers, "" if body is None else json.dumps(body, separators=(",", ":")))

    any_etag = "If-Match: *"
    modules = {"m": {"settings": {"image": "a:1"}}}
    desired = {"$edgeAgent": {"modules": modules}, "$edgeHub": {"routes": {"r": "FROM /* INTO $upstream"}}}
    content = {"modulesContent": {name: {"properties.desired": each} for name, each in desired.items()}}
    keys = {"symmetricKey": {"primaryKey": FILLER_KEY, "secondaryKey": FILLER_KEY}}
    twin = {"properties": {"desired": {"a": {"b": 1}}}, "tags": {"floor": 2}}
    device = {"deviceId": "d", "status": "enabled", "authentication": keys, "capabilities": {"iotEdge": True}}
    query = {"query": "SELECT deviceId FROM devices.modules WHERE properties.desired.a >= 1"}
    bulk = [{"id": "e", "importMode": "create"}, {"id": "edge", "moduleId": "m", "importMode": "delete"}]
    configuration = {"id": "c", "content": content, "targetCondition": "tags.floor=2", "priority": 3}
    return {
        "devices": sent("GET /devices?top=5&api-version=2021-04-12"),
        "device": sent("GET /devices/edge"),
        "create": sent("PUT /devices/d", device),
        "update": sent("PUT /devices/edge/modules/camera", {"moduleId": "camera"}, any_etag),
        "delete": sent("DELETE /devices/edge/modules/camera", None, any_etag),
        "modules": sent("GET /devices/edge/modules"),
        "twin": sent("GET /twins/edge/modules/camera"),
        "patch": sent("PATCH /twins/edge/modules/camera", twin, any_etag),
        "replace": sent("PUT /twins/edge", {"tags": {"site": None}}, 'If-Match: "AAAA"'),
        "method": sent("POST /twins/edge/modules/camera/methods", {"methodName": "ping", "payload": [1]}),
        "agent": sent("POST /twins/edge/modules/$edgeAgent/methods", {"methodName": "ping", "payload": None}),
        "query": sent("POST /devices/query", query, "x-ms-max-item-count: 1"),
        "bulk": sent("POST /devices", bulk),
        "apply": sent("POST /devices/edge/applyConfigurationContent", content),
        "configuration": sent("PUT /configurations/c", configuration),
        "configurations": sent("GET /configurations?top=3&api-version=2021-04-12"),
        "jobs": sent("GET /jobs/v2/query"),
        "unsigned": sent("GET /devices", None, "Authorization: SharedAccessSignature sr=a&sig=b&se=1"),
    }


def _routes() -> Files:
    into = 'INTO BrokeredEndpoint("/modules/model/inputs/frames")'
    body = json.dumps({"t": 5, "s": "x", "l": [{"a": None}], "b": True})
    up = "INTO $upstream"
    texts = {
        "all": "FROM /messages/* INTO $upstream",
        "select": f"SELECT * FROM /messages/modules/camera/outputs/* {into}",
        "body": "FROM /messages/* WHERE $body.t > 3 AND $body.l[0].a = null INTO $upstream",
        "property": f"FROM /messages/* WHERE as_number(k) >= 0x1F OR NOT is_defined(a) {into}",
        "system": "FROM /messages/* WHERE {$body.b} AND $contentType = 'application/json' INTO $upstream",
        "functions": (
            'FROM /messages/* WHERE starts_with(concat(k, "\\u0041", lower(upper(k))), substring(k, 0, 1)) '
            "AND index_of(k, '4') != length(k) AND power(2, -0.5e1) % 3 <> floor(exp(as_number(k))) " + up
        ),
        "operators": "FROM /messages/* WHERE ($body.t * 2 - 1) / 3 < -9 AND ((k || 'b') ?? 'c') <= 'd' " + up,
        "twin": "FROM /twinChangeNotifications WHERE twin_change_includes(tags.floor) INTO $upstream",
        "comment": "FROM /messages/* /* why */ WHERE is_string($body.s) AND true INTO $upstream",
    }
    return {name: _joined(text, "k=42&a=b", body) for name, text in texts.items()}


def _queries() -> Files:
    text = "SELECT * FROM devices"
    twins = [{"deviceId": f"d{index}"} for index in range(4)]
    continuation = page(text, rows(parse_query(text), twins), None, 2).continuation or ""
    texts = {
        "columns": "SELECT deviceId, tags.floor AS storey, tags.[[site]] FROM devices.modules",
        "where": "SELECT * FROM devices WHERE tags.floor > 2 AND NOT (a = 'b c' OR tags.floor IN [1, '2'])",
        "functions": "SELECT * FROM devices WHERE is_defined(tags.list) OR is_number(properties.desired.x.y)",
        "count": "SELECT COUNT() AS n FROM devices WHERE tags.floor NIN [null, true, -1.5e3]",
        "prefix": 'select * from devices where startswith(deviceId, "d\\"") and deviceId != \'d1\'',
        "top": "SELECT TOP 3 * FROM devices",
    }
    return {**{name: _joined(each, "") for name, each in texts.items()}, "page": _joined(text, continuation)}


def _manifests() -> Files:
    settings = {"image": "${MODULES.camera_sim.amd64}", "createOptions": {"HostConfig": {"Binds": ["/a:/b"]}}}
    module = {
        "settings": settings,
        "env": {"A": {"value": "$QUOTE"}, "B": {"value": 3}},
        "status": "running",
        "restartPolicy": "always",
        "startupOrder": 1,
        "version": "1.0",
    }
    routes = {
        "up": "FROM /messages/modules/camera_sim/* INTO $upstream",
        "in": {"route": "FROM /messages/* INTO $upstream", "priority": 3, "timeToLiveSecs": 60},
    }
    content: dict[str, Any] = {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"camera_sim": module}}},
        "$edgeHub": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "routes": routes,
                "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
            }
        },
        "camera_sim": {"properties.desired": {"fps": 5}},
    }
    whole = json.dumps({"modulesContent": content}).replace('"fps": 5', '"fps": $NUMBER')
    tag = {"version": "1.0", "platforms": {"amd64": "Dockerfile"}}
    module_json = json.dumps({"image": {"repository": "${REGISTRY}/camera", "tag": tag}})
    empty = json.dumps({"content": {"modulesContent": {"$edgeAgent": {"properties.desired": {}}}}})
    return {"template": _joined(whole, module_json), "wrapped": _joined(empty, "{}"), "list": b"[1]"}


def _settings() -> Files:
    hub = f"HostName=hub.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"
    texts = {
        "plain": f"# the hub\nIOTHUB_CONNECTION_STRING={hub}\nEDGE_DEVICE_ID=edge-1\n",
        "quoted": f'export IOTHUB_CONNECTION_STRING="{hub}" # here\nREQUESTS_CA_BUNDLE=/no/such/file\n',
        "placeholder": "IOTHUB_CONNECTION_STRING=HostName=<name>;SharedAccessKeyName=a\n",
        "device": f"\ufeffIOTHUB_CONNECTION_STRING={hub};DeviceId=d\r\nEDGE_DEVICE_ID=..\r\n",
        "port": f"IOTHUB_CONNECTION_STRING=HostName=a:8443;SharedAccessKeyName=a;SharedAccessKey={KEY}",
    }
    return {name: text.encode() for name, text in texts.items()}


def main(folder: Path = CORPUS) -> None:
    """Replace the whole corpus."""
    for target, files in corpus().items():
        rmtree(folder / target, ignore_errors=True)
        (folder / target).mkdir(parents=True)
        for name, content in files.items():
            (folder / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
