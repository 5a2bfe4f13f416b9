"""What the page shows: takes message bodies and the time, and gives one JSON object, the view.

The view is whole each time, so a page that connects late or again needs nothing else. Memory is bounded:
every collection has a limit. Times are seconds of CLOCK_MONOTONIC; the view has ages only.

>>> state = State(now_s=0.0)
>>> state.take(b"{", {}, now_s=1.0)
>>> state.view(now_s=2.0, connected=True)["unreadable"]
1
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dashboard.advice import Facts, Note, advise
from dashboard.events import EventLog
from dashboard.figures import Confusion, Rate, percentile
from dashboard.messages import (
    MAX_OBJECTS,
    MAX_SENTENCE,
    STAGES,
    TOTAL,
    BadMessage,
    Event,
    Latency,
    Model,
    Prediction,
    Predictions,
    PublishTime,
    read,
    shown,
)
from dashboard.pictures import BadPicture, Pictures
from edgekit.frame import boxes

RECENT: Final = 24  # answers on the page
MODELS: Final = 20  # changes of the model on the page
TIMED: Final = 500  # answers whose stages make the waterfall until the first latency message
WINDOWS: Final = 60  # latency messages in the line of totals
REMEMBERED: Final = 1_024  # identities of frames: messages are delivered at least once
FRAME_S: Final = 1.0  # a picture with its answer is shown instead of a newer one without, for so long


@dataclass(slots=True)
class ActiveModel:
    """A model from its first answer to the first answer of another one."""

    model: Model
    since_s: float
    again: bool  # it answered before: a rollback, or a version that is published again
    frames: int = 0


class State:
    """Everything the page knows. Not thread-safe."""

    def __init__(self, now_s: float) -> None:
        self._started_s = now_s
        self._recent: deque[tuple[float, dict[str, Any]]] = deque(maxlen=RECENT)
        self._models: deque[ActiveModel] = deque(maxlen=MODELS)
        self._timed: deque[dict[str, float]] = deque(maxlen=TIMED)
        self._identities: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._rate = Rate(now_s)
        self._confusion = Confusion()  # of the model in use
        self._answers = 0
        self._answer_s: float | None = None
        self._latency: Latency | None = None
        self._latency_s = now_s
        self._grown: dict[str, int] = {}  # counters of the last window
        self._totals: deque[float] = deque(maxlen=WINDOWS)
        self._events = EventLog()
        self._pictures = Pictures()
        self._preview_failure = ""
        self._unreadable = 0
        self._reason = ""
        #: grows with every message; the view differs only in ages while it stays
        self.version = 0

    def take(self, body: bytes, properties: Mapping[str, str], now_s: float) -> None:
        """Take one message of either input. A body that cannot be read is counted."""
        self.version += 1
        try:
            message = read(body)
        except BadMessage as error:
            self._unreadable += 1
            self._reason = str(error)
            return
        if isinstance(message, Event):
            self._events.take(message, now_s)
            return
        if isinstance(message, Latency):
            self._take_latency(message, now_s)
            return
        each = message.predictions if isinstance(message, Predictions) else [message]
        for prediction in each:
            self._take_prediction(prediction, properties.get("truth"), now_s)
        self._take_publish_time(message.before)

    def take_picture(self, body: bytes, properties: Mapping[str, str], now_s: float) -> None:
        """Take one preview; it may come before or after the answer to its frame."""
        self.version += 1
        try:
            picture = self._pictures.take(body, properties, now_s)
        except BadPicture as error:
            self._unreadable += 1
            self._reason = str(error)
            return
        for _, answer in self._recent:
            if answer["key"] == picture.key and answer["truth"] is None:
                self._judge(answer, picture.truth)

    def picture(self, key: str) -> bytes | None:
        """The JPEG of a frame, by its camera, run and sequence number."""
        found = self._pictures.get(key)
        return found.body if found else None

    def preview_asked(self, failure: str) -> None:
        """The camera was asked for previews: "", or why it will send none."""
        if failure != self._preview_failure:
            self.version += 1
        self._preview_failure = shown(failure, MAX_SENTENCE)

    def view(self, now_s: float, *, connected: bool) -> dict[str, Any]:
        """Everything the page shows, as a JSON object."""
        latency = self._latency
        heard = [at_s for at_s in (self._answer_s, self._latency_s if latency else None) if at_s is not None]
        return {
            "connected": connected,
            "notes": [note.body() for note in self._notes(now_s, connected)],
            "answers": self._answers,
            "unreadable": self._unreadable,
            "frame": self._frame(now_s),
            "preview_failure": self._preview_failure,
            "recent": [self._answer_view(answer, now_s - at_s) for at_s, answer in reversed(self._recent)],
            "rate": {"now": self._rate.per_second(now_s), "series": self._rate.series(now_s)},
            "window": latency and self._window(latency, now_s),
            "stages": self._stages(),
            "totals": list(self._totals),
            "timeline": self._events.timeline(),
            "modules": self._events.modules(now_s, connected=connected, inference_s=max(heard, default=None)),
            "drift": self._events.drift(),
            "models": [self._model_view(each, now_s) for each in reversed(self._models)],
            "accuracy": self._confusion.view(),
        }

    def _notes(self, now_s: float, connected: bool) -> list[Note]:
        found = advise(self._facts(now_s, connected))
        return [*found, *self._events.notes()] if connected else found

    # Pictures

    def _frame(self, now_s: float) -> dict[str, Any] | None:
        """The newest picture that has an answer, else the newest one; None without a picture."""
        newest = next(self._pictures.newest_first(), None)
        if newest is None:
            return None
        answers = {answer["key"]: answer for _, answer in self._recent}
        answered = (each for each in self._pictures.newest_first() if each.key in answers)
        chosen = next(answered, newest)
        if newest.at_s - chosen.at_s > FRAME_S:
            chosen = newest
        return {
            "key": chosen.key,
            "age_s": _age(now_s, chosen.at_s),
            "answer": answers.get(chosen.key),
        }

    def _answer_view(self, answer: Mapping[str, Any], age_s: float) -> dict[str, Any]:
        pictured = self._pictures.get(answer["key"]) is not None
        return {**answer, "age_s": round(max(0.0, age_s), 1), "pictured": pictured}

    # Predictions

    def _take_prediction(self, prediction: Prediction, truth: str | None, now_s: float) -> None:
        frame = prediction.frame
        identity = frame.camera, frame.run, frame.seq
        if identity in self._identities:
            return
        self._identities[identity] = None
        if len(self._identities) > REMEMBERED:
            self._identities.popitem(last=False)
        self._answers += 1
        self._answer_s = now_s
        self._rate.add(now_s)
        self._note_model(prediction.model, now_s)
        if prediction.stages_ms:
            self._timed.append({name: ms for name, ms in prediction.stages_ms.items() if name in STAGES})
        answer = _answer(prediction)
        picture = self._pictures.get(answer["key"])
        truths = (truth, prediction.truth, picture.truth if picture else None)
        self._judge(answer, next((each for each in truths if each is not None), None))
        self._recent.append((now_s, answer))

    def _judge(self, answer: dict[str, Any], truth: str | None) -> None:
        """Compare an answer to what its frame shows, if that is known."""
        if truth is None:
            return
        objects = boxes.from_text(truth)
        truth = truth if objects is None else boxes.counted(each.label for each in objects) or "nothing"
        answer["truth"] = truth = shown(truth)
        if answer["label"] is not None:
            answer["wrong"] = truth != answer["label"]
            if answer["model"] == _named(self._models[-1].model):  # the figures are those of the model in use
                self._confusion.add(truth, answer["label"])

    def _note_model(self, model: Model, now_s: float) -> None:
        if not self._models or self._models[-1].model != model:
            again = any(each.model == model for each in self._models)
            self._models.append(ActiveModel(model, now_s, again))
            self._confusion = Confusion()
        self._models[-1].frames += 1

    def _take_publish_time(self, before: PublishTime | None) -> None:
        """It belongs to an earlier answer; for percentiles it does not matter to which."""
        if before is not None and self._timed:
            self._timed[-1]["publish"] = before.publish_ms

    # Latency

    def _take_latency(self, latency: Latency, now_s: float) -> None:
        last = self._latency
        before = last.dropped if last is not None and last.instance == latency.instance else {}
        self._grown = {name: count - before.get(name, 0) for name, count in latency.dropped.items()}
        suppressed = last.suppressed if last is not None and last.instance == latency.instance else 0
        self._grown["suppressed"] = latency.suppressed - suppressed
        self._latency, self._latency_s = latency, now_s
        if TOTAL in latency.stages_ms:
            self._totals.append(latency.stages_ms[TOTAL].p50)

    def _window(self, latency: Latency, now_s: float) -> dict[str, Any]:
        return {
            "age_s": _age(now_s, self._latency_s),
            "frames": latency.frames,
            "per_second": latency.frames / latency.window_s if latency.window_s else None,
            "finished": _finished(latency),
            "answered": latency.answered,
            "suppressed": latency.suppressed,
            "suppressed_by": latency.suppressed_by,
            "repeats": latency.repeats,
            "bad_clock": latency.bad_clock,
            "dropped": latency.dropped,
        }

    def _stages(self) -> dict[str, Any] | None:
        """Of the last window, which has every frame; before the first one, of the answers that arrived."""
        latency = self._latency
        if latency is not None and latency.frames and latency.stages_ms:
            known = {name: (each.p50, each.p99) for name, each in latency.stages_ms.items()}
            return _stage_rows("window", latency.frames, known)
        by_name = {name: [each[name] for each in self._timed if name in each] for name in STAGES}
        found = {name: (percentile(ms, 50), percentile(ms, 99)) for name, ms in by_name.items() if ms}
        return _stage_rows("answers", len(self._timed), found) if found else None

    @staticmethod
    def _model_view(active: ActiveModel, now_s: float) -> dict[str, Any]:
        return {
            "name": active.model.name,
            "version": active.model.version,
            "sha256": active.model.sha256,
            "age_s": _age(now_s, active.since_s),
            "frames": active.frames,
            "again": active.again,
        }

    def _facts(self, now_s: float, connected: bool) -> Facts:
        latency = self._latency
        return Facts(
            connected=connected,
            up_s=now_s - self._started_s,
            answer_age_s=now_s - self._recent[-1][0] if self._recent else None,
            latency_age_s=now_s - self._latency_s if latency else None,
            window_s=latency.window_s if latency else 0.0,
            closing=latency is not None and latency.closing,
            grown=self._grown,
            unreadable=self._unreadable,
            reason=self._reason,
        )


def _answer(prediction: Prediction) -> dict[str, Any]:
    frame, top = prediction.frame, prediction.top[:1]
    return {
        "key": f"{frame.camera}-{frame.run}-{frame.seq}",
        "camera": frame.camera,
        "seq": frame.seq,
        "label": top[0].label if top else None,
        "confidence": top[0].confidence if top else None,
        "top": [each.model_dump() for each in prediction.top[:5]],
        "uncertain": prediction.uncertain,
        "detections": [each.model_dump() for each in prediction.detections[:MAX_OBJECTS]],
        "truth": None,
        "wrong": None,
        "model": _named(prediction.model),
    }


def _named(model: Model) -> str:
    return f"{model.name}:{model.version}"


def _stage_rows(of: str, frames: int, known: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    rows, start = [], 0.0
    for name in STAGES:
        if name in known:
            p50, p99 = known[name]
            rows.append({"name": name, "start": start, "p50": p50, "p99": p99})
            start += p50
    total = known.get(TOTAL)
    return {"of": of, "frames": frames, "rows": rows, "total": total and {"p50": total[0], "p99": total[1]}}


def _finished(latency: Latency) -> int:
    """Frames with an outcome since inference started."""
    return latency.answered + latency.suppressed + latency.repeats + sum(latency.dropped.values())


def _age(now_s: float, then_s: float) -> float:
    return round(max(0.0, now_s - then_s), 1)
