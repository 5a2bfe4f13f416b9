"""Settings of the simulated edgeHub with the real edgeHub's defaults (ref 4.1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EdgeHubSettings:
    """The entry point fills it once, from the command line."""

    message_ack_timeout_s: float = 30.0  # MessageAckTimeoutSecs: without a PUBACK by then, send again
    max_connected_clients: int = 100  # MaxConnectedClients
    message_cleanup_interval_s: float = (
        1800.0  # MessageCleanupIntervalSecs: drop expired messages of absent modules
    )
    delivery_window: int = 1  # messages in flight to one module; the real edgeHub has 1
    hop_delay_s: float = 0.0  # added between the store and the delivery of a message
    method_connect_grace_s: float = (
        3.0  # ref 3: a call that waits for its target is sent this long after the target subscribes
    )
    max_message_bytes: int = 262_144  # ref 4.4: body and properties together, counted as routing does
