"""`twinship doctor`: checks a deployment before it is deployed.

`examine` is pure: texts, variables and the hub's answers in, findings out. `read_project` and `ask_hub` read
files and the hub. `catalogue.RULES` has every rule with its id; `docs/doctor.md` lists the same.
"""

from twinship.fleet.doctor.catalogue import RULES, Finding, Severity
from twinship.fleet.doctor.examine import Report, examine
from twinship.fleet.doctor.project import EnvFile, HubAnswer, Pictures, Project
from twinship.fleet.doctor.reading import ask_hub, read_project

__all__ = [
    "RULES",
    "EnvFile",
    "Finding",
    "HubAnswer",
    "Pictures",
    "Project",
    "Report",
    "Severity",
    "ask_hub",
    "examine",
    "read_project",
]
