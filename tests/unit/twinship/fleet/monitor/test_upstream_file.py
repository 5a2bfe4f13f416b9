"""Following a file that another process writes: partial lines, rotation, truncation, bad lines."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from twinship.fleet import monitor
from twinship.fleet.monitor import BadLine, Follower, Latency, Other, Prediction

WAIT_S = 10.0


def envelope(body: object) -> dict[str, Any]:
    """A line of upstream.jsonl as an object."""
    return {
        "EnqueuedTimeUtc": "2026-11-23T06:30:00.000Z",
        "Properties": {"label": "7"},
        "SystemProperties": {"connectionDeviceId": "twinship", "connectionModuleId": "inference"},
        "Body": body,
    }


def prediction(seq: int = 7, **more: object) -> dict[str, Any]:
    """The body of a prediction message."""
    return {
        "schema": "twinship.prediction.v1",
        "instance": "00" * 8,
        "frame": {"camera": "camera", "run": "ab" * 8, "seq": seq},
        "captured": 1_700_000_000_000_000_000,
        "model": {"name": "digits", "version": "1.0.0", "sha256": "00" * 32, "weights": "00" * 32},
        "top": [{"label": "7", "confidence": 0.998}],
        "stages_ms": {"encode": 0.4, "invoke": 0.1},
        "clock": "monotonic",
        "before": None,
        **more,
    }


LATENCY = {
    "schema": "twinship.latency.v1",
    "instance": "00" * 8,
    "window_s": 10.0,
    "frames": 100,
    "stages_ms": {"total": {"count": 100, "p50": 2.5, "p99": None}},
    "answered": 100,
    "repeats": 1,
    "suppressed": 0,
    "dropped": {"overload": 0, "outbox": 2},
    "before": None,
    "closing": True,
}


def line(body: object) -> str:
    """One complete line."""
    return json.dumps(envelope(body)) + "\n"


def test_a_prediction_is_parsed() -> None:
    """All fields are read from one line."""
    found = monitor.parse(line(prediction(uncertain=True)))
    assert isinstance(found, Prediction)
    assert (found.source.device, found.source.module) == ("twinship", "inference")
    assert (found.camera, found.seq, found.label, found.confidence) == ("camera", 7, "7", 0.998)
    assert (found.model, found.uncertain, found.stages_ms) == (
        "digits:1.0.0",
        True,
        {"encode": 0.4, "invoke": 0.1},
    )


def test_a_latency_summary_is_parsed() -> None:
    """A stage without frames has no percentile, and not the percentile zero."""
    found = monitor.parse(line(LATENCY))
    assert isinstance(found, Latency)
    assert (found.frames, found.dropped, found.repeats, found.closing) == (
        100,
        {"overload": 0, "outbox": 2},
        1,
        True,
    )
    assert found.stages_ms == {"total": {"count": 100.0, "p50": 2.5}}


@pytest.mark.parametrize("body", ["aGVsbG8=", {"schema": "else"}, {"x": 1}, 7, {"schema": ["x"]}])
def test_a_message_of_an_unknown_schema_is_kept(body: object) -> None:
    """Other modules may send messages upstream too."""
    assert isinstance(monitor.parse(line(body)), Other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "null",
        "{}",
        json.dumps({"SystemProperties": {}, "Body": 1}),
        line({"schema": "twinship.prediction.v1"}),
        line(prediction(top=[])),
        line(prediction(frame={"camera": "c", "run": "r", "seq": "seven"})),
        line({**LATENCY, "dropped": 3}),
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_bad_line_is_refused(text: str | bytes) -> None:
    """Every bad line raises BadLine."""
    with pytest.raises(BadLine):
        monitor.parse(text)


class Following:
    """A Follower on its own thread; its messages are in a queue, so a test can wait for the next one."""

    def __init__(self, path: Path, *, from_start: bool) -> None:
        self.stop = threading.Event()
        self.follower = Follower(path, stop=self.stop, from_start=from_start, poll_s=0.005)
        self.found: Queue[monitor.UpstreamMessage] = Queue()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for message in self.follower:
            self.found.put(message)

    def seq(self) -> int:
        """The seq of the next message."""
        message = self.found.get(timeout=WAIT_S)
        assert isinstance(message, Prediction)
        return message.seq

    def end(self) -> None:
        """Stop the thread and wait for its end."""
        self.stop.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "upstream.jsonl"


@pytest.fixture
def following(path: Path) -> Iterator[Following]:
    """A Follower of `path` from its start."""
    running = Following(path, from_start=True)
    yield running
    running.end()


def append(path: Path, text: str) -> None:
    """Append to the file as the simulator does: open, append, flush."""
    with path.open("a") as file:
        file.write(text)


def test_it_waits_for_the_file_and_for_the_rest_of_a_line(path: Path, following: Following) -> None:
    """A line is read when its newline has been written; its first half is not lost."""
    whole = line(prediction(1))
    append(path, whole[:50])
    append(path, whole[50:])
    assert following.seq() == 1
    append(path, line(prediction(2)) + line(prediction(3))[:-1])
    assert following.seq() == 2
    append(path, "\n")
    assert following.seq() == 3


def test_a_replaced_file_is_read_to_its_end_and_then_the_new_one(path: Path, following: Following) -> None:
    """Rotation loses neither the last line of the old file nor the first of the new one."""
    append(path, line(prediction(1)))
    assert following.seq() == 1
    append(path, line(prediction(2)))
    path.rename(path.with_suffix(".1"))
    append(path, line(prediction(3)))
    assert [following.seq(), following.seq()] == [2, 3]


def test_a_truncated_file_is_read_from_its_start(path: Path, following: Following) -> None:
    """A new simulator writes the same file again."""
    append(path, line(prediction(1)) + line(prediction(2)))
    assert [following.seq(), following.seq()] == [1, 2]
    path.write_text(line(prediction(9)))
    assert following.seq() == 9


def test_a_bad_line_is_skipped_and_counted(path: Path, following: Following) -> None:
    """The next good line is read."""
    append(path, "rubbish\n\n" + line(prediction(4)))
    assert following.seq() == 4
    assert following.follower.skipped == 1


def test_an_overlong_line_does_not_fill_the_memory(path: Path, following: Following) -> None:
    """A line longer than any message is skipped and counted once, even if it would parse."""
    append(path, " " * (3 * monitor.MAX_LINE_BYTES))
    append(path, line(prediction(4)) + line(prediction(5)))
    assert following.seq() == 5
    assert following.follower.skipped == 1


def test_old_messages_are_skipped(path: Path) -> None:
    """Without `from_start` only messages that arrive later are read."""
    append(path, line(prediction(1)))
    following = Following(path, from_start=False)
    while following.found.empty():  # until the follower has opened the file
        append(path, line(prediction(2)))
        following.stop.wait(0.01)
    assert following.seq() == 2
    following.end()


def test_stopping_ends_the_iteration(path: Path) -> None:
    """The iteration ends if the event is set, although the file does not exist."""
    stop = threading.Event()
    stop.set()
    assert list(Follower(path, stop=stop)) == []


def batch(*seqs: int) -> dict[str, Any]:
    """The body of a message with the predictions for a batch."""
    records = [{name: value for name, value in prediction(seq).items() if name != "before"} for seq in seqs]
    return {"schema": "twinship.predictions.v1", "predictions": records, "before": None}


def test_a_batch_yields_its_predictions(path: Path, following: Following) -> None:
    """A bad record makes only its own line bad."""
    bad = batch(5, 6)
    del bad["predictions"][1]["top"]
    append(path, line(batch(1, 2)) + line(bad) + line(prediction(3)))
    assert [following.seq() for _ in range(3)] == [1, 2, 3]
    assert following.follower.skipped == 1
