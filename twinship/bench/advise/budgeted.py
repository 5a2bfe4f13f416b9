"""The messages of one device with a budget upstream, counted by the code that the module runs."""

from __future__ import annotations

from inference.frames.budget import LATENCY_BYTES, MAX_LATENCY_BYTES, OVERHEAD_BYTES, Budget, Packer, Use
from twinship.bench.advise.tiers import DAY_S, Stream

_HOUR_S = 3_600
_S = 10**9
_ENOUGH_FPS = 10  # a faster camera fills the same blocks


def streams(
    per_day: int, block_bytes: int, fps: float, record_bytes: int, interval_s: float
) -> tuple[Stream, ...]:
    """The streams of predictions and latency messages: an hour in simulated time, 24 times.

    Every frame's prediction is offered (`predictions: all`); one a minute differs from the one before.
    """
    budget = Budget()
    budget.configure(per_day, block_bytes, 0)
    packer = Packer[int](budget)
    latency_ns = int(budget.latency_interval_s(interval_s) * _S)
    messages: list[int] = []  # bytes
    latencies, next_latency, next_change = 0, latency_ns, 0
    fps = min(fps, _ENOUGH_FPS)
    for number in range(int(_HOUR_S * fps)):
        now = int(number / fps * _S)
        if packer.due is not None and now >= packer.due:
            messages.append(_size(packer.take()))
        if now >= next_latency:
            next_latency += latency_ns
            if budget.affords(Use.LATENCY, budget.blocks(MAX_LATENCY_BYTES), now):
                budget.charge(budget.blocks(LATENCY_BYTES), now)
                latencies += 1
        changed = now >= next_change
        next_change += 60 * _S if changed else 0
        use = Use.CHANGE if changed else Use.ORDINARY
        if not packer.hopeless(use, now) and (full := packer.offer(record_bytes, record_bytes, use, now)):
            messages.append(_size(full))
    hours = DAY_S // _HOUR_S
    found = [Stream(hours * latencies, LATENCY_BYTES)]
    # One stream for each size, because the blocks of an average say nothing about the largest ones.
    found += [Stream(hours * messages.count(size), size) for size in sorted(set(messages))]
    return tuple(found)


def _size(records: list[int]) -> int:
    return OVERHEAD_BYTES + sum(records) + len(records) - 1
