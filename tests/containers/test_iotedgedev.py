"""iotedgedev 3.3.9, unmodified, in this repository: genconfig, build, push."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.containers.engine import ROOT, TAG, inspect
from tests.containers.solution import Solution
from twinship.fleet.deploy import read_manifest

pytestmark = [pytest.mark.containers, pytest.mark.long]

TEMPLATE = ROOT / "deployment.template.json"


def test_its_manifest_is_what_twinship_deploys(solution: Solution) -> None:
    """Every value is equal, with the credentials of the registry."""
    output = solution.iotedgedev("genconfig", "--platform", "amd64")
    assert "Validation for all createOptions passed" in output
    assert solution.manifest() == read_manifest(TEMPLATE, solution.variables).modules_content


def test_without_a_user_name_it_writes_empty_credentials(solution: Solution) -> None:
    """twinship leaves the block out; all else is equal."""
    nobody = {"CONTAINER_REGISTRY_USERNAME": "", "CONTAINER_REGISTRY_PASSWORD": ""}
    solution.iotedgedev("genconfig", "--platform", "amd64", variables=nobody)
    theirs = solution.manifest()
    settings = theirs["$edgeAgent"]["properties.desired"]["runtime"]["settings"]
    credentials = settings.pop("registryCredentials")
    assert [entry["username"] for entry in credentials.values()] == [""]
    assert theirs == read_manifest(TEMPLATE, {**solution.variables, **nobody}).modules_content


def test_it_builds_and_pushes_the_modules(pushed: Solution) -> None:
    """The registry has both images of the manifest, and each is the one that the engine built."""
    assert fetched(pushed.registry, "_catalog") == {"repositories": ["camera_sim", "inference"]}
    for module in ("camera_sim", "inference"):
        manifest = fetched(pushed.registry, f"{module}/manifests/{TAG}")
        assert manifest["config"]["digest"] == inspect(f"{pushed.registry}/{module}:{TAG}", "image")["Id"]


def fetched(registry: str, path: str) -> Any:
    """A JSON document of the registry (OCI Distribution Specification 1.1)."""
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{registry}/v2/{path}", headers={"Accept": kind})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
