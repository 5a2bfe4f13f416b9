"""What can be set on the simulated edgeHub, with edgeHub's own defaults (ref 4.1). Reads no environment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EdgeHubSettings:
    """Filled once, in the process's entry."""

    message_ack_timeout_s: float = 30.0  # MessageAckTimeoutSecs: no PUBACK from a module by then, send again
    max_connected_clients: int = 100  # MaxConnectedClients
    message_cleanup_interval_s: float = 1800.0  # MessageCleanupIntervalSecs: expired messages of the absent
    delivery_window: int = 1  # messages under way to one module; edgeHub knows no other number
    hop_delay_s: float = 0.0  # added between storing a message and delivering it
    method_connect_grace_s: float = 3.0  # ref 3: a call that waits for its target goes out this long after it
    max_message_bytes: int = 262_144  # ref 4.4: body and properties together, as routing counts them
