"""The messages that devices send upstream, from a hub's event endpoint or the simulator's upstream.jsonl.

`messages` parses them, `rows` is what `twinship monitor` prints of them, `event_hub` reads the endpoint,
`checkpoint` keeps a reader's position, `upstream_file` follows the simulator's file.
"""

from twinship.fleet.monitor.messages import (
    BadLine,
    Batch,
    Detection,
    Event,
    Latency,
    Other,
    Prediction,
    Source,
    UpstreamMessage,
    parse,
    parse_body,
)
from twinship.fleet.monitor.upstream_file import MAX_LINE_BYTES, Follower

__all__ = [
    "MAX_LINE_BYTES",
    "BadLine",
    "Batch",
    "Detection",
    "Event",
    "Follower",
    "Latency",
    "Other",
    "Prediction",
    "Source",
    "UpstreamMessage",
    "parse",
    "parse_body",
]
