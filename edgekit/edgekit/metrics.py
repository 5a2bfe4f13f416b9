"""Serves the process's Prometheus metrics over HTTP."""

import logging

from prometheus_client import start_http_server

logger = logging.getLogger(__name__)


def serve(listen: str | None) -> None:
    """Serve `/metrics` at "address:port"; do nothing if `listen` is None or empty.

    If the address cannot be used, this logs an error and the module runs without metrics.
    """
    if not listen:
        return
    address, _, port = listen.rpartition(":")
    try:
        start_http_server(int(port), addr=address or "0.0.0.0")
    except (OSError, ValueError, OverflowError) as error:
        logger.error("METRICS_LISTEN=%s: no metrics: %s; cure: a free address:port", listen, error)
