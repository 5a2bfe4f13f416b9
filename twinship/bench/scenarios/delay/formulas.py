"""The two formulas of the article on inference at the edge, and the bandwidth at which both sides are equal.

The article asks where a picture should be classified, and answers with

    Delay          = Data Size  / Bandwidth + Processing Time      (a frame travels to the model)
    Inference Time = Model Size / Bandwidth + Processing Time      (the model travels to the frames, once)

Here sizes are bytes on the wire, bandwidths bytes per second, times seconds. Processing Time is the time on a
link without a limit, plus one empty round trip of the link in question. Without the round trip, the formulas
would be wrong on every link with latency, for which they have no term.

>>> delay_s(250_000, 125_000, 0.25)
2.25
>>> break_even(10_000, 0.11, 0.01)
100000.0
"""

from __future__ import annotations

import math


def delay_s(data_bytes: float, bandwidth: float, processing_s: float) -> float:
    """Seconds from a frame to its answer over a link of `bandwidth` bytes/s. Raises ValueError unless > 0."""
    if not bandwidth > 0:
        raise ValueError(f"bandwidth {bandwidth} bytes/s: must be more than 0")
    return data_bytes / bandwidth + processing_s


def model_s(model_bytes: float, bandwidth: float, processing_s: float) -> float:
    """Seconds until a new model serves; `processing_s` begins at its last byte. Raises as `delay_s`."""
    return delay_s(model_bytes, bandwidth, processing_s)


def processing_s(unlimited_s: float, empty_s: float, empty_unlimited_s: float) -> float:
    """Processing Time on a link with latency, from measurements that send no frame over it.

    `unlimited_s`: a frame on a link without limit or latency. `empty_unlimited_s`: a message without a
    picture on the same link. `empty_s`: such a message on the link with latency.
    """
    return unlimited_s - empty_unlimited_s + empty_s


def break_even(data_bytes: float, edge_s: float, cloud_processing_s: float) -> float:
    """The bandwidth in bytes/s above which the cloud answers earlier than the edge.

    It solves Delay = edge_s. The result is `inf` if the cloud's Processing Time alone is as long as the
    edge's whole delay: then no link is fast enough.
    """
    spare_s = edge_s - cloud_processing_s
    return data_bytes / spare_s if spare_s > 0 else math.inf


def deviation(predicted: float, measured: float) -> float:
    """The absolute difference as a share of the measured value."""
    return abs(predicted - measured) / measured
