"""Events and actions of the reconciler, as data.

Events come from the twin, the operator and the frame path, and from actions that ended. A task (Check, Prove,
Load) may take long. It has a number, so that the result of an overtaken task can be recognised.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from inference.invoke_mark import Interrupted
from inference.model_section import ModelRef
from inference.models.errors import Reason
from inference.models.status import DesiredModel, LoadedModel
from inference.models.store import NOTHING_INTERRUPTED, Memory, StoredModel


@dataclass(frozen=True)
class Serve:
    """Let this loaded model serve (None: no model), and `previous` if its engine fails."""

    model: ModelRef | None
    previous: ModelRef | None = None
    probation: bool = False


@dataclass(frozen=True)
class SetPrevious:
    """Change `previous` only. The serving model and its probation stay."""

    previous: ModelRef | None


@dataclass(frozen=True)
class Save:
    """Save the memory."""

    memory: Memory


@dataclass(frozen=True)
class Reply:
    """Answer the call that the event came from."""

    result: ModelRef | bool | None


@dataclass(frozen=True)
class Sweep:
    """Remove the artefacts that the memory does not name, except the candidate's."""

    memory: Memory
    candidate: str = ""  # sha256


@dataclass(frozen=True)
class Restore:
    """Load a stored model. Outcome: the model."""

    stored: StoredModel


@dataclass(frozen=True)
class Check:
    """Verify the section's model, after a download if it needs one. Outcome: which model it is."""

    task: int
    section: object


@dataclass(frozen=True)
class Prove:
    """Try the candidate in a child process. Outcome: the figures of the proof, as timings."""

    task: int


@dataclass(frozen=True)
class Load:
    """Save the memory, then load the candidate. Nothing is loaded if saving fails. Outcome: the model."""

    task: int
    memory: Memory


Task = Check | Prove | Load
#: In the order in which the actions of one step are performed: the serving model does not wait for the disk.
Action = Serve | SetPrevious | Save | Reply | Sweep | Restore | Task
Outcome = ModelRef | LoadedModel | Mapping[str, float] | Reason | None


@dataclass(frozen=True)
class ActionEnded:
    """Save, Restore or a task ended. The outcome is a Reason if it failed."""

    action: Action
    outcome: Outcome = None
    took_ms: float = 0.0


@dataclass(frozen=True)
class Opened:
    """The store is open. `newer`: why the state of a newer version was set aside, or empty.

    `last`: the invoke in which the last process ended.
    """

    memory: Memory
    newer: str = ""
    last: Interrupted = NOTHING_INTERRUPTED


@dataclass(frozen=True)
class SectionChanged:
    """The twin has another `model` section, or none."""

    desired: DesiredModel


@dataclass(frozen=True)
class VersionChanged:
    """The twin has the section with this digest under another `$version`."""

    digest: str
    version: int


@dataclass(frozen=True)
class RollbackRequested:
    """A person wants the previous model."""


@dataclass(frozen=True)
class ReloadRequested:
    """A person wants another try of a section that was refused or withdrawn."""


@dataclass(frozen=True)
class RetryDue:
    """`State.retry_at_s` has come."""


@dataclass(frozen=True)
class ProbationEnded:
    """The frame path ended the probation of this model. If it failed, the previous model serves already."""

    ref: ModelRef
    failure: Reason | None = None


@dataclass(frozen=True)
class Stopping:
    """The process ends in good order."""


Event = (
    Opened
    | SectionChanged
    | VersionChanged
    | RollbackRequested
    | ReloadRequested
    | RetryDue
    | ProbationEnded
    | Stopping
    | ActionEnded
)
