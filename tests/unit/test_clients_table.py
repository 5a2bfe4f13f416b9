"""The table of clients: which tests fill a cell, what counts, and that the document shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.clients.table import ROWS, USES, Table, empty, filled, markdown, missing, to_json

ROOT = Path(__file__).parents[2]
ROW = ("azure-iot-device (Node)", "MQTT")


def report(result: str, *uses: str, when: str = "call", test: str = "f::t") -> SimpleNamespace:
    """What pytest reports of a test that fills these cells of ROW."""
    return SimpleNamespace(
        when=when,
        outcome=result,
        skipped=result == "skipped",
        longrepr=("f", 1, "Skipped: no node on this machine"),
        nodeid=test,
        user_properties=[("client", [*ROW, use]) for use in uses],
    )


def all_passed() -> Table:
    """The table when every test passes."""
    table = empty()
    for cells in table.values():
        for cell in cells.values():
            if cell.result == "not run":
                cell.add("passed", "f::t", "")
    return table


def test_a_cell_shows_the_worst_of_its_tests() -> None:
    """A failure counts more than a skip, a skip more than a pass; a skip has its reason."""
    reports = [
        *(report("passed", "twin", "method", "C2D"), report("failed", "twin", test="f::u")),
        *(report("skipped", "method", when="setup", test="f::u"), report("passed", "twin", when="teardown")),
        *(report("passed", "connect", when="setup"), object()),
    ]
    row = filled(reports)[ROW]
    found = {use: cell.result for use, cell in row.items()}
    assert (found["twin"], found["method"], found["C2D"], found["connect"]) == (
        *("failed", "skipped", "passed", "not run"),
    )
    assert row["method"].reason == "no node on this machine"
    assert to_json(filled(reports))[ROW[0]][ROW[1]]["twin"] == {"result": "failed", "tests": ["f::t", "f::u"]}


def test_a_cell_without_a_test_is_named() -> None:
    """A use that a client does not have needs a reason instead."""
    table = all_passed()
    assert missing(table) == []
    table[ROW]["twin"] = empty()[ROW]["twin"]
    assert missing(table) == ["azure-iot-device (Node), MQTT, twin"]
    assert all(reason for reasons in ROWS.values() for reason in reasons.values())
    assert all(use in USES for reasons in ROWS.values() for use in reasons)


def test_the_document_has_the_table() -> None:
    """docs/simulator.md shows what `make clients` prints when every test passes."""
    assert "\n".join(markdown(all_passed())) in (ROOT / "docs" / "simulator.md").read_text()


@pytest.mark.parametrize(
    ("marks", "code"), [('uses("twin")', 0), ('uses("flying")', 4)], ids=["a use", "an unknown use"]
)
def test_an_unknown_cell_ends_the_run(tmp_path: Path, marks: str, code: int) -> None:
    """A wrong name in a marker is a usage error, and not a cell that stays empty."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_itemcollected\n")
    (tmp_path / "test_x.py").write_text(
        f"import pytest\n\n@pytest.mark.client{ROW!r}\n@pytest.mark.{marks}\ndef test_x(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr


def test_the_lock_file_names_the_public_registry_and_has_hashes() -> None:
    """`npm ci` then installs the same bytes everywhere."""
    lock = json.loads((ROOT / "tests/clients/node/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages.keys() >= {"node_modules/azure-iot-device", "node_modules/azure-iothub"}
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert package.get("resolved", "https://registry.npmjs.org/").startswith(
            "https://registry.npmjs.org/"
        )
