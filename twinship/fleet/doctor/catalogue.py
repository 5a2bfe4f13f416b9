"""The rules of `twinship doctor`: id, severity, title, cure, and the public issue that shows the damage.

An id never changes its meaning and is never used again. TW0xx is about the manifest and the images, TW1xx
about routes, TW2xx about twins, TW3xx about Twinship's own modules, TW4xx about `.env`, TW5xx about the hub.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

_ISSUES = "https://github.com/"


class Severity(StrEnum):
    """ERROR: the deployment fails, or does not do what the manifest says. Only errors set exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Rule:
    """One rule. `issue` is the address of a public issue, or empty."""

    id: str
    severity: Severity
    title: str
    cure: str
    issue: str = ""


@dataclass(frozen=True)
class Finding:
    """One fault at one place. `line` counts from 1; 0 means the whole file."""

    rule: Rule
    file: str
    line: int
    cause: str

    @property
    def place(self) -> str:
        """`file:line`, or the file alone."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def to_json(self) -> dict[str, object]:
        """Id, severity, file, line, cause, cure and issue as JSON types."""
        rule = asdict(self.rule)
        title = rule.pop("title")
        return {**rule, "title": title, "file": self.file, "line": self.line, "cause": self.cause}


def finding(rule_id: str, file: str, line: int, cause: str) -> Finding:
    """A finding of the rule with this id."""
    return Finding(RULES[rule_id], file, line, cause)


def _rules(severity: Severity, *rows: tuple[str, ...]) -> list[Rule]:
    return [
        Rule(row[0], severity, row[1], row[2], _ISSUES + row[3].replace("#", "/issues/") if row[3:] else "")
        for row in rows
    ]


_ALL = [
    *_rules(
        Severity.ERROR,
        ("TW001", "The manifest is not JSON", "Correct the character at this place."),
        ("TW003", "The form of the manifest is wrong", "Give the key the form that the cause names."),
        (
            "TW004",
            "A whole deployment lacks a system module",
            "Add $edgeAgent and $edgeHub with properties.desired, edgeAgent and edgeHub under systemModules.",
        ),
        (
            "TW005",
            "The schema version is not supported",
            "Write schemaVersion 1.1; edgeAgent takes 1.0 and 1.1, edgeHub 1.0 to 1.3.",
        ),
        ("TW009", "The name of a module is not allowed", "Use only letters, digits, '_' and '-'."),
        ("TW010", "Too many modules", "Split the deployment: IoT Hub takes 50 modules."),
        ("TW012", "A value of a module is not allowed", "Write one of the values that the cause names."),
        ("TW015", "A variable of a module has no value", 'Write "NAME": {"value": "text"}.'),
        (
            "TW016",
            "A placeholder has no value",
            "Set the variable in .env or in the environment.",
            "Azure/iotedge-lorawan-starterkit#1311",
        ),
        (
            "TW017",
            "A variable still has the placeholder of the example",
            "Replace the text in angle brackets by the real value.",
        ),
        (
            "TW018",
            "An image placeholder names no module",
            "Name a folder of modules/ with a module.json that lists the platform.",
            "Azure/iotedge#1814",
        ),
        ("TW020", "A module has no image", "Write the image in the settings of the module."),
        (
            "TW023",
            "The name of an image is not valid",
            "Write registry/name:tag in lower case, without https://.",
            "Azure/iotedge#1814",
        ),
        (
            "TW024",
            "The model needs a runtime that the image does not have",
            "Use an image for amd64 or arm64v8, or train a model for the runtime of arm32v7.",
        ),
        (
            "TW027",
            "The registry credentials are incomplete",
            "Set username, password and address; the address has no https://.",
            "Azure/iotedge#368",
        ),
        ("TW030", "createOptions is not a JSON object", "Write an object, or its JSON as text."),
        (
            "TW031",
            "createOptions is too long",
            "Shorten it to 4,096 characters; move files into the image or a volume.",
            "Azure/iotedge#3601",
        ),
        (
            "TW032",
            "Two modules bind the same port of the device",
            "Give one of them another HostPort.",
            "Azure/iotedge#851",
        ),
        (
            "TW035",
            "The host path of a mount is not absolute",
            "Write an absolute path, or the plain name of a volume.",
        ),
        (
            "TW101",
            "edgeHub cannot parse the route",
            "Correct the route: with one faulty route edgeHub sends nothing upstream.",
            "Azure/iotedge#5308",
        ),
        (
            "TW102",
            "edgeHub ignores what follows the sink",
            "Write the condition before INTO: FROM source WHERE condition INTO sink.",
            "Azure/iotedge#4353",
        ),
        (
            "TW103",
            "The route names a module that the deployment does not have",
            "Correct the name, or add the module.",
            "Azure/iotedge#839",
        ),
        ("TW104", "The module has no such input", "Use an input that the module reads."),
        (
            "TW107",
            "Frames of the camera go to the cloud",
            "Name the outputs that shall go upstream instead of all messages.",
            "Azure/iotedge#1097",
        ),
        ("TW109", "storeAndForwardConfiguration is wrong", "Write timeToLiveSecs as a whole number."),
        (
            "TW201",
            "The desired properties are too large",
            "Shorten them to 32,768 bytes; for $edgeAgent shorten env and createOptions, or remove modules.",
            "Azure/iotedge#1694",
        ),
        (
            "TW202",
            "A string of a twin is too long",
            "Split the string into keys of at most 4,096 bytes each.",
            "Azure/iotedge#6547",
        ),
        (
            "TW203",
            "A key of a twin is not allowed",
            "Use no '.', '$', space or control character, and at most 1,024 bytes.",
        ),
        ("TW204", "A twin nests too deep", "Use at most 10 levels."),
        (
            "TW205",
            "A value of a twin is not allowed",
            "Use no null in arrays, and whole numbers from -2^52 to 2^52-1.",
        ),
        (
            "TW301",
            "Signatures are required, and there is no trusted key",
            "Run twinship keys show --env-file .env, then deploy.",
        ),
        ("TW303", "The model is not an artefact", "Name the model.tflite that twinship train wrote."),
        (
            "TW304",
            "A picture does not fit into a message",
            "Set the camera's encoding to png or jpeg, or use smaller pictures.",
            "Azure/iotedge#1554",
        ),
        ("TW305", "The folder has no pictures", "Name a folder with PNG or JPEG pictures."),
        ("TW308", "The section 'model' cannot be read", "Remove it: twinship publish writes it."),
        ("TW402", "The connection string is not usable", "Copy the string of a service policy again."),
        ("TW501", "The hub cannot be reached", "Check HostName, the network and the proxy."),
        (
            "TW502",
            "The clock is wrong",
            "Set the clock, for example with systemd-timesyncd: IoT Hub refuses tokens of another time.",
            "Azure/iotedge#3982",
        ),
        ("TW503", "The hub does not accept the key", "Copy the connection string of the policy again."),
        (
            "TW504",
            "The policy lacks a right",
            "Use a policy with registry read, registry write and service connect, as iothubowner.",
        ),
        (
            "TW506",
            "The certificate of the hub is not trusted",
            "Name the hub's CA file in REQUESTS_CA_BUNDLE, or remove the proxy that replaces certificates.",
        ),
    ),
    *_rules(
        Severity.WARNING,
        ("TW002", "A key appears twice", "Remove one of them: only the last counts."),
        (
            "TW006",
            "edgeAgent ignores the key at this schema version",
            "Write schemaVersion 1.1 in $edgeAgent.",
            "Azure/iotedge#3067",
        ),
        (
            "TW007",
            "$schema-template does not fit the schema version",
            "Write $schema-template 4.0.0 and schemaVersion 1.1.",
        ),
        (
            "TW008",
            "The MQTT broker of edgeHub was withdrawn",
            "Remove mqttBroker; edgeHub 1.5 and 1.6 do not have it.",
        ),
        ("TW011", "A twin belongs to no module", "Remove the twin, or add the module to $edgeAgent."),
        (
            "TW013",
            "The restart policy on-unhealthy has no effect",
            "Use always, and end the process when the module is unhealthy.",
            "Azure/iotedge#6358",
        ),
        (
            "TW021",
            "An image has no tag",
            "Name a version; without a tag Docker takes latest.",
            "Azure/iotedge#364",
        ),
        (
            "TW022",
            "An image has the tag latest",
            "Name a version: edgeAgent does not see a new image under the old name.",
            "Azure/iotedge#364",
        ),
        (
            "TW025",
            "The images are for different architectures",
            "Build all modules of the device for one platform.",
            "Azure/iotedge#552",
        ),
        (
            "TW026",
            "A registry has no credentials",
            "Set CONTAINER_REGISTRY_USERNAME and _PASSWORD, unless the registry needs no login.",
            "Azure/iotedge#368",
        ),
        (
            "TW028",
            "The version of the runtime is not supported, or its parts differ",
            "Use 1.5 or 1.6 for both edgeAgent and edgeHub.",
        ),
        (
            "TW033",
            "A module is privileged",
            "Name the devices and capabilities that it needs (Devices, CapAdd).",
        ),
        ("TW105", "The module has no such output", "Use an output that the module sends to."),
        ("TW106", "No route takes the messages of an output", "Add a route, else edgeHub drops them."),
        (
            "TW108",
            "The source of the route matches nothing",
            "Use '*' only as the last part of the path.",
        ),
        ("TW206", "A deployment sets no tags", "Set tags in the twin of the device."),
        (
            "TW302",
            "The model does not fit into the twin",
            "Publish it with --store blob, or with --url.",
        ),
        (
            "TW306",
            "The telemetry exceeds the daily quota",
            'Set "predictions": "changes", raise intervalSeconds, or take a larger tier (IOTHUB_SKU).',
            "Azure/iotedge#1097",
        ),
        ("TW401", "Other users can read the secrets", "Run chmod 600 on the file."),
        ("TW403", "A line of .env is ignored", "Write NAME=value, or a comment with '#'."),
        ("TW404", "A variable is set twice", "Remove one of the lines: only the last counts."),
        ("TW505", "The hub does not have the device", "Check EDGE_DEVICE_ID, or use deploy --create."),
    ),
    *_rules(
        Severity.NOTE,
        (
            "TW019",
            "twinship deploy does not expand the placeholder",
            "Write ${MODULES.name} for the folder modules/name.",
        ),
        (
            "TW034",
            "A mounted path does not exist on this machine",
            "Create it on the device before you deploy; Docker makes an empty folder of root, or fails.",
            "Azure/Industrial-IoT#1668",
        ),
    ),
]
#: Every rule by its id, sorted.
RULES = {rule.id: rule for rule in sorted(_ALL, key=lambda rule: rule.id)}
