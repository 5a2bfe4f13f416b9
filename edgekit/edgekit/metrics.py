"""The module's Prometheus text over HTTP; the figures themselves belong to who counts them."""

import logging

from prometheus_client import start_http_server

logger = logging.getLogger(__name__)


def serve(listen: str | None) -> None:
    """Serve `/metrics` at "address:port"; nothing where `listen` is None or empty.

    A listener that cannot be had is said and done without: figures are no reason for a module not to run.
    """
    if not listen:
        return
    address, _, port = listen.rpartition(":")
    try:
        start_http_server(int(port), addr=address or "0.0.0.0")
    except (OSError, ValueError, OverflowError) as error:
        logger.error("METRICS_LISTEN=%s: no metrics: %s; cure: a free address:port", listen, error)
