"""`docs/doctor.md` lists every rule of the catalogue."""

from tests.unit.twinship.fleet.doctor.project_files import ROOT
from twinship.fleet.doctor import RULES
from twinship.fleet.doctor.catalogue import Rule


def row(rule: Rule) -> str:
    """The row of a rule in the table; a failure shows what to write."""
    number = rule.issue.removeprefix("https://github.com/").replace("/issues/", "#")
    issue = f"[{number}]({rule.issue})" if rule.issue else "–"
    return f"| {rule.id} | {rule.severity} | {rule.title} | {rule.cure} | {issue} |"


def test_the_table_has_every_rule_with_its_cure() -> None:
    """Ids, severities, cures and issues in the document are those of the program, in order."""
    lines = (ROOT / "docs/doctor.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| TW")] == [row(rule) for rule in RULES.values()]
