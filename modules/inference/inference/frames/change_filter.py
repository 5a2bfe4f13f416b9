"""Chooses the predictions to send, and says why the others are not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inference.frames.budget import Use
from inference.frames.outcomes import Outcome
from inference.frames.prediction import Prediction
from inference.frames.settings import TelemetrySection

REMEMBERED_CAMERAS: Final = 64


@dataclass(slots=True)
class _Last:
    key: tuple[object, str]  # answer, model's sha256
    answered: int  # CLOCK_MONOTONIC ns


class ChangeFilter:
    """Remembers the last prediction sent for each camera."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, _Last] = OrderedDict()

    def verdicts(
        self, telemetry: TelemetrySection, predictions: Sequence[Prediction], *, ranked: bool = True
    ) -> list[Use | Outcome]:
        """Return for each prediction its use, or the outcome of one that is not sent.

        All are of one camera; there is at least one. Without `ranked`, all uses may be the same.
        """
        mode = telemetry.predictions
        if mode == "none":
            return [Outcome.OFF] * len(predictions)
        if mode == "all" and not ranked:
            return [Use.ORDINARY] * len(predictions)
        last = self._last.get(predictions[0].frame.id.camera)
        before = last.key if last else None
        beat = self._beat(telemetry.heartbeatSeconds, last, predictions[0])
        verdicts: list[Use | Outcome] = []
        for each in predictions:
            key = _key(each)
            changed, uncertain = key != before and mode != "uncertain", each.answer.uncertain
            if changed or beat or (uncertain and mode != "changes"):
                verdicts.append(Use.CHANGE)
            else:
                verdicts.append(_OTHERWISE[mode])
            before, beat = key, False
        return verdicts

    def record_sent(self, prediction: Prediction) -> None:
        """Remember a prediction that the outbox accepted; one that it refused still counts as a change."""
        camera = prediction.frame.id.camera
        self._last[camera] = _Last(_key(prediction), prediction.stage_times.answered)
        self._last.move_to_end(camera)
        if len(self._last) > REMEMBERED_CAMERAS:
            self._last.popitem(last=False)

    def forget(self, prediction: Prediction) -> None:
        """Take back `record_sent`: the camera's next prediction is a change."""
        self._last.pop(prediction.frame.id.camera, None)

    @staticmethod
    def _beat(heartbeat_s: float, last: _Last | None, prediction: Prediction) -> bool:
        if not heartbeat_s:
            return False
        return last is None or prediction.stage_times.answered - last.answered >= heartbeat_s * 1e9


_OTHERWISE: Final[dict[str, Use | Outcome]] = {
    "all": Use.ORDINARY,
    "changes": Outcome.UNCHANGED,
    "uncertain": Outcome.CERTAIN,
}


def _key(prediction: Prediction) -> tuple[object, str]:
    return prediction.answer.key, prediction.ref.sha256
