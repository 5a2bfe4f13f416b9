"""Whether and when a module that ended is started again, as edgeAgent decides. Knows no process, no clock."""

from __future__ import annotations

from simulator.manifest import RestartPolicy

EXIT_STUCK = 75  # a module that found its hub stuck asks to be started again: its own last word, not a crash
# edgeAgent waits 10 s and doubles up to 5 min. The first ones are shorter here: somebody is watching.
DELAYS_S = (0.1, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
HEALTHY_AFTER_S = 600.0  # a module that ran this long is trusted again (edgeAgent's "intensive care" time)
NOT_AT_ONCE_S = 5.0  # exit 75 this soon after the start is a loop, whatever the module thinks


def is_restarted(policy: RestartPolicy, exit_code: int) -> bool:
    """What the policy says about this exit; unhealthy is nothing that happens here."""
    return policy in ("always", "on-unhealthy") or (policy == "on-failure" and exit_code != 0)


def delay_s(quick_exits: int, exit_code: int, ran_s: float) -> float:
    """How long to wait before the next start, after this many exits in a row that came too soon."""
    if exit_code == EXIT_STUCK and ran_s >= NOT_AT_ONCE_S:
        return 0.0
    return DELAYS_S[min(quick_exits, len(DELAYS_S)) - 1] if quick_exits else 0.0


def quick_exits_after(quick_exits: int, ran_s: float) -> int:
    """The count that goes into delay_s, after a run of `ran_s`."""
    return 1 if ran_s >= HEALTHY_AFTER_S else quick_exits + 1
