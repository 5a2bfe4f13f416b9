"""The two formulas of the article on inference at the edge, and where they cross. Pure; measures nothing.

The article asks where a picture should be classified, and answers with

    Delay          = Data Size  / Bandwidth + Processing Time      (a frame travels to the model)
    Inference Time = Model Size / Bandwidth + Processing Time      (the model travels to the frames, once)

Here sizes are bytes counted on the wire, bandwidths bytes a second, times seconds. Processing Time is what
passes on a link without a limit, one empty round trip of that link included: a formula without a term for
latency would otherwise be wrong on every link that has some.
"""

from __future__ import annotations

import math


def delay_s(data_bytes: float, bandwidth: float, processing_s: float) -> float:
    """Seconds from a frame to its answer over a link of `bandwidth` bytes/s.

    Raises ValueError for a bandwidth that is not above 0.
    """
    if not bandwidth > 0:
        raise ValueError(f"a link of {bandwidth} bytes/s carries nothing: more than 0")
    return data_bytes / bandwidth + processing_s


def model_s(model_bytes: float, bandwidth: float, processing_s: float) -> float:
    """Seconds until a new model answers; `processing_s`: from its last byte on. Raises as `delay_s`."""
    return delay_s(model_bytes, bandwidth, processing_s)


def processing_s(unlimited_s: float, empty_s: float, empty_unlimited_s: float) -> float:
    """Processing Time on a link with latency, from what can be measured without sending a frame over it.

    `unlimited_s`: a frame on a link without limit or latency; `empty_unlimited_s`: a message without a
    picture on that link; `empty_s`: such a message on the link with latency.
    """
    return unlimited_s - empty_unlimited_s + empty_s


def break_even(data_bytes: float, edge_s: float, cloud_processing_s: float) -> float:
    """Bytes/s at which the cloud answers as soon as the edge: above it the cloud is sooner.

    `inf` where the cloud's Processing Time alone is not shorter than the edge's whole delay: then no link
    helps. From Delay = edge_s, solved for the bandwidth.
    """
    spare_s = edge_s - cloud_processing_s
    return data_bytes / spare_s if spare_s > 0 else math.inf


def deviation(predicted: float, measured: float) -> float:
    """By which share of what was measured the prediction is off, without a sign."""
    return abs(predicted - measured) / measured
