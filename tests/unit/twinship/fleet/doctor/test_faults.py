"""Each rule finds its planted fault at its place and nothing else; without the fault there is silence."""

import json
from dataclasses import replace

import pytest

from tests.unit.twinship.fleet.doctor.project_files import (
    CONNECTION,
    FAULTLESS,
    LARGE_MODEL,
    ROOT,
    TEMPLATE,
    VARIABLES,
    artefact,
    env_text,
    with_variables,
    without_variable,
)
from twinship.fleet.doctor import RULES, EnvFile, HubAnswer, Pictures, Project, examine

INFERENCE = '"${MODULES.inference}"'
ROUTES = '"routes": {\n'
MODULES = '"modules": {\n'
CAMERA = '"camera": { "fps"'
CAMERA_BINDS = '"Binds": ["twinship-camera:/data"'


def deep(levels: int) -> str:
    """An object with this many levels."""
    return '{"x": ' * levels + "1" + "}" * levels


def modules(count: int) -> str:
    """Entries of `modules` on one line."""
    return "".join(f'"m{number}": {{"settings": {{"image": "redis:7"}}}}, ' for number in range(count))


#: Rule, what is replaced in the manifest (pairs), and a text of the line where the finding stands.
IN_THE_MANIFEST: list[tuple[str, list[tuple[str, str]], str]] = [
    ("TW001", [('"flow": {', '"flow" {')], '"flow" {'),
    (
        "TW002",
        [('"flow": {', '"predictions": "FROM /* INTO $upstream", "flow": {')],
        '"predictions": "FROM /mess',
    ),
    ("TW003", [('"camera_sim": {\n      "properties.desired"', '"camera_sim": {\n      "desired"')], ""),
    ("TW004", [('"edgeAgent": {', '"edgeagent": {')], '"systemModules"'),
    ("TW005", [('"1.1",\n        "routes"', '"2.0",\n        "routes"')], '"2.0"'),
    (
        "TW006",
        [('"1.1",\n        "runtime"', '"1.0",\n        "runtime"'), ('"4.0.0"', '"2.0.0"')],
        '"startupOrder": 0',
    ),
    ("TW007", [('"4.0.0"', '"2.0.0"')], '"2.0.0"'),
    ("TW008", [(ROUTES, '"mqttBroker": {},\n' + ROUTES)], '"mqttBroker"'),
    ("TW009", [(MODULES, MODULES + '"a+b": {"settings": {"image": "redis:7"}},')], '"a+b"'),
    ("TW010", [(MODULES, MODULES + modules(50))], '"modules": {'),
    (
        "TW011",
        [('"inference": {\n      "prop', '"ghost": {"properties.desired": {}},\n"inference": {\n "prop')],
        '"ghost"',
    ),
    (
        "TW012",
        [('"restartPolicy": "always",\n            "startupOrder": 1', '"restartPolicy": "daily"')],
        '"daily"',
    ),
    (
        "TW013",
        [('"restartPolicy": "always",\n            "startupOrder": 1', '"restartPolicy": "on-unhealthy"')],
        '"on-unhealthy"',
    ),
    ("TW015", [('"CAMERA_NAME": { "value": "camera" }', '"CAMERA_NAME": "camera"')], '"CAMERA_NAME"'),
    ("TW018", [(INFERENCE, '"${MODULES.infer}"')], "MODULES.infer}"),
    ("TW019", [(INFERENCE, '"${MODULEDIR<../infer>}"')], "MODULEDIR"),
    ("TW020", [(INFERENCE, '""')], '"image": ""'),
    ("TW021", [(INFERENCE, '"$CONTAINER_REGISTRY_SERVER/detect"')], "/detect"),
    ("TW022", [(INFERENCE, '"redis:latest"')], "redis"),
    ("TW023", [(INFERENCE, '"Redis:7"')], "Redis"),
    ("TW025", [(INFERENCE, '"${MODULES.inference.arm64v8}"')], '"modules": {'),
    ("TW028", [("azureiotedge-agent:1.6", "azureiotedge-agent:1.4")], '"systemModules"'),
    ("TW030", [('"createOptions": {}', '"createOptions": "{"')], '"{"'),
    (
        "TW031",
        [('"createOptions": {}', '"createOptions": {"Labels": {"x": "' + "y" * 4096 + '"}}')],
        '"Labels"',
    ),
    (
        "TW032",
        [(CAMERA_BINDS, '"PortBindings": {"80/tcp": [{"HostPort": "443"}]},\n' + CAMERA_BINDS)],
        '"80/tcp"',
    ),
    ("TW033", [(CAMERA_BINDS, '"Privileged": true,\n' + CAMERA_BINDS)], '"Privileged"'),
    ("TW035", [('"twinship-camera:/data"', '"./camera:/data"')], '"./camera'),
    ("TW101", [("outputs/latency INTO", "outputs/latency TO")], "latency TO"),
    ("TW102", [("outputs/latency INTO $upstream", "outputs/latency INTO $upstream WHERE a = 'b'")], "WHERE"),
    ("TW103", [(ROUTES, ROUTES + '"x": "FROM /messages/modules/infrence/* INTO $upstream",\n')], '"x"'),
    (
        "TW104",
        [
            (
                ROUTES,
                ROUTES + '"x": "FROM /messages/* INTO BrokeredEndpoint(\'/modules/inference/inputs/f\')",\n',
            )
        ],
        '"x"',
    ),
    (
        "TW105",
        [(ROUTES, ROUTES + '"x": "FROM /messages/modules/inference/outputs/p INTO $upstream",\n')],
        '"x"',
    ),
    (
        "TW106",
        [
            (
                '"latency": "FROM /messages/modules/inference/outputs/latency',
                '"latency": "FROM /messages/modules/inference/outputs/flow',
            )
        ],
        '"routes"',
    ),
    ("TW107", [(ROUTES, ROUTES + '"x": "FROM /messages/* INTO $upstream",\n')], '"x"'),
    ("TW108", [(ROUTES, ROUTES + '"x": "FROM /messages/modules/inf* INTO $upstream",\n')], '"x"'),
    ("TW109", [('"timeToLiveSecs": 7200', '"timeToLiveSecs": "long"')], '"storeAndForwardConfiguration"'),
    (
        "TW201",
        [(CAMERA, "".join(f'"k{n}": "{"x" * 4000}", ' for n in range(9)) + CAMERA)],
        '"properties.desired": {\n        "k0"',
    ),
    ("TW202", [(CAMERA, '"long": "' + "x" * 4097 + '",\n' + CAMERA)], '"long"'),
    ("TW203", [(CAMERA, '"a.b": 1,\n' + CAMERA)], '"properties.desired": {\n        "a.b"'),
    ("TW204", [(CAMERA, f'"deep": {deep(11)},\n' + CAMERA)], '"deep"'),
    ("TW205", [(CAMERA, '"list": [null],\n' + CAMERA)], '"list"'),
    (
        "TW206",
        [('"camera_sim": {\n      "prop', '"camera_sim": {\n "tags": {"site": "lab"},\n "prop')],
        '"tags"',
    ),
    ("TW306", [('"predictions": "changes"', '"predictions": "all"')], '"predictions": "all"'),
    ("TW308", [('"telemetry": {', '"model": {"name": "digits"},\n "telemetry": {')], '"model"'),
]

#: Rule, the project, the place.
AROUND_IT: list[tuple[str, Project, str]] = [
    ("TW016", without_variable("MODEL_TRUSTED_KEYS"), "MODEL_TRUSTED_KEYS"),
    ("TW017", with_variables(CONTAINER_REGISTRY_SERVER="<registry>.azurecr.io"), ".env:2"),
    (
        "TW024",
        replace(
            with_variables(DEFAULT_PLATFORM="arm32v7"),
            model=("model.tflite", artefact(tflite_runtime="2.17.0")),
        ),
        "model.tflite",
    ),
    ("TW026", with_variables(CONTAINER_REGISTRY_USERNAME=""), "${MODULES.inference}"),
    ("TW027", with_variables(CONTAINER_REGISTRY_PASSWORD=""), '"registry": {'),
    ("TW034", replace(FAULTLESS, exists=lambda _path: False), '"$CAMERA_FOLDER:$CAMERA_FOLDER:ro"'),
    ("TW301", with_variables(MODEL_TRUSTED_KEYS=""), '"MODEL_TRUSTED_KEYS"'),
    ("TW302", replace(FAULTLESS, model=("model.tflite", LARGE_MODEL)), "model.tflite"),
    ("TW303", replace(FAULTLESS, model=("model.tflite", b"no model")), "model.tflite"),
    (
        "TW304",
        replace(
            FAULTLESS,
            manifest=TEMPLATE.replace('"encoding": "png"', '"encoding": "raw"'),
            pictures=Pictures("pictures", 1, {"raw": ("large.png", 900_000)}),
        ),
        '"encoding"',
    ),
    ("TW305", replace(FAULTLESS, pictures=Pictures("pictures", 0)), "pictures"),
    ("TW401", replace(FAULTLESS, env=EnvFile(".env", env_text(), shared=True)), ".env"),
    ("TW402", with_variables(IOTHUB_CONNECTION_STRING="HostName=hub.azure-devices.net"), ".env:1"),
    ("TW403", replace(FAULTLESS, env=EnvFile(".env", env_text() + "CAMERA\n")), ".env:7"),
    ("TW404", replace(FAULTLESS, env=EnvFile(".env", env_text() + "CAMERA_FOLDER=/x\n")), ".env:7"),
    ("TW501", replace(FAULTLESS, hub=HubAnswer(rule="TW501", error="no address")), ".env:1"),
    ("TW502", replace(FAULTLESS, hub=HubAnswer(ahead_s=-301.0)), ".env:1"),
    ("TW503", replace(FAULTLESS, hub=HubAnswer(rule="TW503", error="401")), ".env:1"),
    ("TW504", replace(FAULTLESS, hub=HubAnswer(rule="TW504", error="403")), ".env:1"),
    ("TW505", replace(FAULTLESS, hub=HubAnswer(rule="TW505", error="404")), ".env:1"),
    ("TW506", replace(FAULTLESS, hub=HubAnswer(rule="TW506", error="not trusted")), ".env:1"),
]


def planted(changes: list[tuple[str, str]]) -> str:
    """The shipped manifest with each text replaced once."""
    text = TEMPLATE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def line_of(text: str, part: str) -> int:
    """The line in which the part begins, from 1."""
    assert part in text, part
    return text[: text.index(part)].count("\n") + 1


def test_the_project_without_a_fault_has_no_findings() -> None:
    """The counter-proof of every row: with the right text the rule is silent."""
    assert examine(FAULTLESS).findings == ()


@pytest.mark.parametrize(("rule", "changes", "at"), IN_THE_MANIFEST, ids=[row[0] for row in IN_THE_MANIFEST])
def test_a_fault_in_the_manifest_is_found(rule: str, changes: list[tuple[str, str]], at: str) -> None:
    """Only the rule of the planted fault reports, and it names the line."""
    text = planted(changes)
    found = examine(replace(FAULTLESS, manifest=text)).findings
    assert {each.rule.id for each in found} == {rule}, [each.cause for each in found]
    if at:
        assert found[0].place == f"deployment.template.json:{line_of(text, at)}"
    assert found[0].cause


@pytest.mark.parametrize(("per_day", "found"), [(8_000, set()), (500_000, {"TW306"})])
def test_a_budget_within_the_quota_is_no_fault(per_day: int, found: set[str]) -> None:
    """All predictions of ten frames a second, but no more messages a day than the hub takes."""
    telemetry = f'"predictions": "all", "maxPerDay": {per_day}'
    text = planted([('"predictions": "changes"', telemetry)])
    assert {each.rule.id for each in examine(replace(FAULTLESS, manifest=text)).findings} == found


@pytest.mark.parametrize(("rule", "project", "at"), AROUND_IT, ids=[row[0] for row in AROUND_IT])
def test_a_fault_around_the_manifest_is_found(rule: str, project: Project, at: str) -> None:
    """Only the rule of the planted fault reports, and it names the file, and the line where there is one."""
    found = examine(project).findings
    assert {each.rule.id for each in found} == {rule}, [each.cause for each in found]
    lines = [at, f"deployment.template.json:{line_of(project.manifest, at) if at in project.manifest else 0}"]
    assert found[0].place in lines


def test_the_dashboard_is_a_module_of_ours_that_takes_no_models() -> None:
    """Its manifest has no findings; a route to an input that it has not is found."""
    manifest = (ROOT / "deployment.dashboard.template.json").read_text()
    project = replace(
        FAULTLESS,
        manifest=manifest,
        environment={**VARIABLES, "DASHBOARD_TOKEN": "x" * 16, "DASHBOARD_HOSTS": ""},
        env=EnvFile(".env", env_text(DASHBOARD_TOKEN="x" * 16, DASHBOARD_HOSTS="")),
    )
    assert examine(project).findings == ()
    wrong = manifest.replace("dashboard/inputs/latency", "dashboard/inputs/delay")
    (found,) = examine(replace(project, manifest=wrong)).findings
    assert "'dashboard' has no input 'delay'" in found.cause


def test_every_rule_has_a_planted_fault() -> None:
    """A rule that no test sees at work is not in the catalogue."""
    rows = [row[0] for row in IN_THE_MANIFEST] + [row[0] for row in AROUND_IT]
    assert sorted(rows) == list(RULES)


def test_a_finding_has_everything_that_a_tool_needs() -> None:
    """`--json` prints these fields."""
    found = examine(replace(FAULTLESS, manifest=planted([("outputs/latency INTO", "outputs/latency TO")])))
    (one,) = [each.to_json() for each in found.findings]
    assert one["id"] == "TW101"
    assert one["severity"] == "error"
    assert one["issue"] == "https://github.com/Azure/iotedge/issues/5308"
    assert {"file", "line", "cause", "cure", "title"} <= one.keys()
    json.dumps(one)


def test_no_finding_shows_a_secret() -> None:
    """Passwords and keys are not in any cause, whatever else is wrong."""
    for rule, project, _ in AROUND_IT:
        for each in examine(project).findings:
            assert VARIABLES["CONTAINER_REGISTRY_PASSWORD"] not in each.cause, rule
            assert "c2VjcmV0" not in each.cause, rule


def test_a_password_with_a_dollar_sign_is_no_variable() -> None:
    """A part of the password must not be reported as the name of an unset variable."""
    assert examine(with_variables(CONTAINER_REGISTRY_PASSWORD="a$SECRET")).findings == ()


def test_without_an_env_file_variables_are_not_missing() -> None:
    """The shipped manifest is silent before .env exists; the report names what was not checked."""
    report = examine(Project("deployment.template.json", TEMPLATE, modules=FAULTLESS.modules))
    assert report.findings == ()
    assert report.unset == ("CAMERA_FOLDER", "CONTAINER_REGISTRY_SERVER", "MODEL_TRUSTED_KEYS")


def test_with_a_simulator_variables_are_not_missing() -> None:
    """The simulator pulls no image and mounts no folder, so deploy takes a manifest with unset variables."""
    local = {"IOTHUB_CONNECTION_STRING": CONNECTION.replace("hub.azure-devices.net", "127.0.0.1:8443")}
    project = replace(FAULTLESS, environment=local, env=EnvFile("service.env", ""))
    assert examine(project).findings == ()
    assert "CAMERA_FOLDER" in examine(project).unset
    far = replace(project, environment={"IOTHUB_CONNECTION_STRING": CONNECTION})
    assert {each.rule.id for each in examine(far).findings} == {"TW016"}


@pytest.mark.parametrize(
    "condition", ["kind = 'alarm'", "NOT is_defined($connectionModuleId)", "$outputName = 'predictions'"]
)
def test_a_condition_that_frames_do_not_meet_keeps_them_on_the_device(condition: str) -> None:
    """The counter-proof of TW107: a route from all sources is fine if its condition excludes frames."""
    route = f'"x": "FROM /messages/* WHERE {condition} INTO $upstream",\n'
    assert examine(replace(FAULTLESS, manifest=planted([(ROUTES, ROUTES + route)]))).findings == ()


@pytest.mark.parametrize("output", ["frames", "preview"])
def test_a_route_of_pictures_to_the_cloud_is_found(output: str) -> None:
    """Small pictures are pictures, too; a route to a module of the device is fine."""
    route = f"FROM /messages/modules/camera_sim/outputs/{output} INTO "
    text = planted([(ROUTES, f'{ROUTES}"x": "{route}$upstream",\n')])
    (found,) = examine(replace(FAULTLESS, manifest=text)).findings
    assert (found.rule.id, repr(output) in found.cause) == ("TW107", True)
    sink = "BrokeredEndpoint('/modules/inference/inputs/frames')"
    text = planted([(ROUTES, f'{ROUTES}"x": "{route}{sink}",\n')])
    assert examine(replace(FAULTLESS, manifest=text)).findings == ()


@pytest.mark.parametrize(("characters", "rules"), [(100, set()), (5000, {"TW031"})])
def test_options_in_parts_are_joined_before_they_are_measured(characters: int, rules: set[str]) -> None:
    """A generated manifest has createOptions as text in parts, which only together are JSON."""
    text = json.dumps({"Labels": {"x": "y" * characters}})
    middle = len(text) // 2
    parts = json.dumps({"createOptions": text[:middle], "createOptions01": text[middle:]})[1:-1]
    found = examine(replace(FAULTLESS, manifest=planted([('"createOptions": {}', parts)]))).findings
    assert {each.rule.id for each in found} == rules
