"""Add up one run from two files: the camera's send log, and the messages that arrived upstream.

The functions take lines and return a summary. A figure that can be computed from the lines themselves is
never taken from a counter.

>>> sent = read_sent(['{"camera": "c", "run": "r", "seq": 0, "truth": null, "captured": 1, "stored": 2}\\n'])
>>> summarise("data", sent, read_upstream([])).frames_lost
1
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from inference.frames.ledger import STAGES
from twinship.demo.detections import Detection, Judged, judge

PERCENTILES = (50, 90, 99)
MAX_RANGE = 65_536  # frames in one entry of `lost_frames`

ANSWERS = ("twinship.prediction.v1", "twinship.detection.v1")

FrameKey = tuple[str, str, int]  # camera, run, seq


@dataclass(frozen=True)
class Sent:
    """One line of the camera's send log: a frame that the hub acknowledged (PUBACK)."""

    key: FrameKey
    truth: str | None
    captured_ns: int


@dataclass(frozen=True)
class SendLog:
    """The contents of `sent.jsonl`. A line that a full disk cut is unreadable."""

    frames: tuple[Sent, ...]
    unreadable_lines: int


@dataclass(frozen=True)
class Answer:
    """One prediction as it arrived upstream. `stages_ms` has no `publish`: a later message carries it."""

    key: FrameKey
    label: str | None  # None: a detector answered
    version: str
    sha256: str
    weights: str
    stages_ms: Mapping[str, float]
    detections: tuple[Detection, ...] = ()


@dataclass(frozen=True)
class Upstream:
    """The contents of `upstream.jsonl`: answers in order of arrival, publish times, the newest counters."""

    answers: tuple[Answer, ...]
    publish_ms: Mapping[FrameKey, float]
    counters: Mapping[str, Mapping[str, Any]]  # inference process → its newest `latency` message
    unreadable_lines: int
    lost: frozenset[FrameKey] = frozenset()  # that ended inference processes had in hand, by name


@dataclass(frozen=True)
class Version:
    """The frames that one model version answered."""

    frames: int
    accuracy: float | None
    sha256: str
    weights_sha256: str
    detection: Judged | None = None  # None: of a classifier, or of pictures without boxes


@dataclass(frozen=True)
class Summary:
    """The figures of one run.

    `frames_dropped` have a known reason, `frames_lost` are in no count. `repeats` are frames that inference
    received again and answers that arrived upstream again. `foreign_frames` are answers to frames of another
    run: they are counted here and otherwise ignored. `unreadable_lines` of both files count as nothing else.
    """

    dataset: str
    frames_sent: int
    frames_answered: int
    frames_lost: int
    frames_dropped: int
    repeats: int
    foreign_frames: int
    accuracy: float | None
    latency_ms: Mapping[str, Mapping[str, float]]
    by_version: Mapping[str, Version]
    dropped_by_reason: Mapping[str, int] = field(default_factory=dict)
    unreadable_lines: int = 0
    detection: Judged | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures in the form of `summary.json`."""
        return asdict(self)


def frame_key(frame: Mapping[str, Any]) -> FrameKey:
    """The identity of a frame from its JSON object."""
    return str(frame["camera"]), str(frame["run"]), int(frame["seq"])


def read_sent(lines: Iterable[str]) -> tuple[Sent, ...]:
    """The frames of the camera's send log."""
    return read_send_log(lines).frames


def read_send_log(lines: Iterable[str]) -> SendLog:
    """Parse the camera's send log. An incomplete last line, from a killed camera, is left out."""
    sent = []
    unreadable = 0
    for line in lines:
        if line.endswith("\n"):
            try:
                entry = json.loads(line)
                sent.append(Sent(frame_key(entry), entry["truth"], int(entry["captured"])))
            except (ValueError, KeyError, TypeError, RecursionError):
                unreadable += 1
    return SendLog(tuple(sent), unreadable)


def read_upstream(lines: Iterable[str]) -> Upstream:
    """Parse the messages of the inference module; messages of other modules are ignored."""
    answers: list[Answer] = []
    publish_ms: dict[FrameKey, float] = {}
    counters: dict[str, Mapping[str, Any]] = {}
    lost: set[FrameKey] = set()
    batches: dict[FrameKey, list[FrameKey]] = {}
    unreadable = 0
    for line in lines:
        try:
            body = json.loads(line)["Body"]
            schema = body.get("schema", "") if isinstance(body, dict) else ""
            if schema in ANSWERS:
                answers.append(_answer(body))
            elif schema == "twinship.predictions.v1":
                batch = [_answer(record) for record in body["predictions"]]
                answers += batch
                batches[batch[0].key] = [answer.key for answer in batch]
            elif schema == "twinship.latency.v1":
                counters[str(body["instance"])] = body
                lost.update(lost_frames(body))
            if schema.startswith("twinship."):
                publish_ms |= _published(body)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            unreadable += 1
    for first, rest in batches.items():  # one publish time holds for the whole batch
        if first in publish_ms:
            publish_ms |= dict.fromkeys(rest, publish_ms[first])
    return Upstream(tuple(answers), publish_ms, counters, unreadable, frozenset(lost))


def lost_frames(body: Mapping[str, Any]) -> Iterator[FrameKey]:
    """The frames that a `latency` message names as lost in a restart.

    >>> list(lost_frames({"lost_frames": [{"camera": "c", "run": "r", "first": 3, "last": 4}]}))
    [('c', 'r', 3), ('c', 'r', 4)]
    """
    for each in body.get("lost_frames", ()):
        first, last = int(each["first"]), int(each["last"])
        for seq in range(first, min(last, first + MAX_RANGE) + 1):
            yield str(each["camera"]), str(each["run"]), seq


def _published(body: Mapping[str, Any]) -> dict[FrameKey, float]:
    """Publish times of earlier frames: the newest is `before`, others that came late are in `earlier`."""
    earlier = [body.get("before"), *body.get("earlier", ())]
    return {frame_key(each["frame"]): float(each["publish_ms"]) for each in earlier if each}


def _answer(body: Mapping[str, Any]) -> Answer:
    model = body["model"]
    return Answer(
        key=frame_key(body["frame"]),
        label=None if "detections" in body else str(body["top"][0]["label"]),
        version=str(model["version"]),
        sha256=str(model["sha256"]),
        weights=str(model["weights"]),
        stages_ms={stage: float(ms) for stage, ms in body["stages_ms"].items()},
        detections=tuple(_detection(each) for each in body.get("detections", ())),
    )


def _detection(body: Mapping[str, Any]) -> Detection:
    left, top, width, height = (float(body["box"][side]) for side in "ltwh")
    return str(body["label"]), float(body["confidence"]), (left, top, width, height)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of at least one value, which is always one of the values.

    >>> percentile([4.0, 2.0, 1.0, 3.0], 50)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _accuracy(answers: Iterable[Answer], truths: Mapping[FrameKey, str | None]) -> float | None:
    right = [
        answer.label == truths[answer.key]
        for answer in answers
        if answer.label is not None and truths[answer.key] is not None
    ]
    return sum(right) / len(right) if right else None


def _judged(answers: Iterable[Answer], truths: Mapping[FrameKey, str | None]) -> Judged | None:
    return judge([(truths[each.key], each.detections) for each in answers if each.label is None])


def _latency(
    first: Mapping[FrameKey, Answer], publish_ms: Mapping[FrameKey, float]
) -> dict[str, dict[str, float]]:
    stages: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "total")}
    for key, answer in first.items():
        known = dict(answer.stages_ms)
        if key in publish_ms:
            known["publish"] = publish_ms[key]
            if "transit" in known:  # without it the camera's clock was not plausible
                stages["total"].append(sum(known.values()))
        for stage, ms in known.items():
            stages[stage].append(ms)
    return {
        stage: {f"p{percent}": round(percentile(values, percent), 3) for percent in PERCENTILES}
        for stage, values in stages.items()
        if values
    }


def _never_stored(sent: Sequence[Sent]) -> int:
    """Gaps in the sequence of each run: frames that the camera captured and the hub never acknowledged."""
    seqs: dict[tuple[str, str], set[int]] = {}
    for frame in sent:
        seqs.setdefault(frame.key[:2], set()).add(frame.key[2])
    return sum(max(run) + 1 - len(run) for run in seqs.values())


def summarise(dataset: str, sent: Sequence[Sent], upstream: Upstream, *, unreadable_sent: int = 0) -> Summary:
    """Join both files by frame identity and add them up. `unreadable_sent`: lines of the send log."""
    truths = {frame.key: frame.truth for frame in sent}
    runs = {key[:2] for key in truths}
    ours = [answer for answer in upstream.answers if answer.key in truths]
    first: dict[FrameKey, Answer] = {}
    for answer in ours:
        first.setdefault(answer.key, answer)
    reasons: dict[str, int] = {}
    for counters in upstream.counters.values():
        for reason, count in counters["dropped"].items():
            reasons[reason] = reasons.get(reason, 0) + int(count)
    # A killed process may have sent the answer and not seen its PUBACK: the answer counts.
    if answered := len(upstream.lost & first.keys()):
        reasons["lost_in_restart"] = reasons.get("lost_in_restart", 0) - answered
    named_drops = sum(reasons.values())
    reasons["camera"] = _never_stored(sent)
    by_version: dict[str, list[Answer]] = {}
    for answer in first.values():
        by_version.setdefault(answer.version, []).append(answer)
    return Summary(
        dataset=dataset,
        frames_sent=len(truths),
        frames_answered=len(first),
        frames_lost=max(0, len(truths) - len(first) - named_drops),
        frames_dropped=sum(reasons.values()),
        repeats=len(ours)
        - len(first)
        + sum(int(counters["repeats"]) for counters in upstream.counters.values()),
        foreign_frames=sum(answer.key[:2] not in runs for answer in upstream.answers),
        accuracy=_accuracy(first.values(), truths),
        latency_ms=_latency(first, upstream.publish_ms),
        by_version={
            version: Version(
                len(answers),
                _accuracy(answers, truths),
                answers[0].sha256,
                answers[0].weights,
                _judged(answers, truths),
            )
            for version, answers in by_version.items()
        },
        dropped_by_reason={reason: count for reason, count in sorted(reasons.items()) if count},
        unreadable_lines=upstream.unreadable_lines + unreadable_sent,
        detection=_judged(first.values(), truths),
    )


def shortcomings(
    summary: Summary,
    *,
    expected_frames: int,
    expected_versions: Sequence[str],
    minimum_accuracy: float | None,
) -> list[str]:
    """The reasons why this run is no success, one line each; empty if it is one."""
    found = []
    if not summary.frames_sent or summary.frames_sent < expected_frames:
        found.append(f"{summary.frames_sent} of {expected_frames} frames were sent")
    if summary.frames_lost:
        found.append(f"{summary.frames_lost} frames were lost")
    if summary.frames_dropped:
        found.append(f"{summary.frames_dropped} frames were dropped: {dict(summary.dropped_by_reason)}")
    found += [
        f"version {version} answered nothing"
        for version in expected_versions
        if version not in summary.by_version
    ]
    if len({version.weights_sha256 for version in summary.by_version.values()}) < len(summary.by_version):
        found.append("two versions have the same weights")
    if minimum_accuracy is not None and (summary.accuracy is None or summary.accuracy < minimum_accuracy):
        found.append(f"accuracy {summary.accuracy} is below {minimum_accuracy}")
    return found
