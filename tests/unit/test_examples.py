"""The usage examples of the docstrings are run: each prints what it shows."""

from __future__ import annotations

import doctest
import importlib
from types import ModuleType

import pytest

from tests.unit import test_arrows, test_protocol_reference

WITH_EXAMPLES = sorted(name for name, path in test_arrows.modules().items() if ">>> " in path.read_text())


def failures(module: ModuleType) -> str:
    """The examples of a module that print something else, with what they print."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for examples in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(examples, out=report.append)
    return "".join(report)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_print_what_they_show(name: str) -> None:
    """A reader can copy an example into an interpreter and sees the same."""
    assert failures(importlib.import_module(name)) == ""


def test_the_examples_of_the_test_of_citations_hold() -> None:
    """Its examples are the forms of a citation."""
    assert failures(test_protocol_reference) == ""


def test_a_wrong_example_is_found() -> None:
    """The counter-proof: an example that prints something else fails, and the report shows both."""
    planted = ModuleType("planted", ">>> 1 + 1\n3\n")
    assert "Got:\n    2" in failures(planted)
    assert len(WITH_EXAMPLES) > 50
