"""The source in force. The twin may name another one while the camera runs."""

import logging

from camera_sim.settings import CameraEnvironment, CameraSettings
from camera_sim.sources.address import Address, below, parse_public, with_credentials
from camera_sim.sources.picture import Picture, Source, State
from camera_sim.sources.table import Opening, check_installed, open_source

logger = logging.getLogger(__name__)

_NO_SOURCE = State("connecting")


class Selector:
    """Opens, exchanges and closes sources.

    `request` may be called from any thread, `apply`, `next` and `close` from the camera's. Without a request
    no source is opened: the first twin may name another one than the environment.
    """

    def __init__(self, environment: CameraEnvironment, source: Source | None = None) -> None:
        self._environment = environment
        self._address = environment.source
        self._source = source
        self._requested: Opening | None = None
        self._applied: Opening | None = None

    def __str__(self) -> str:
        return str(self._source or self._address)

    @property
    def unreadable(self) -> int:
        """Pictures of this source that could not be read."""
        return self._source.unreadable if self._source else 0

    @property
    def losses(self) -> int:
        """How often this source was lost."""
        return self._source.losses if self._source else 0

    @property
    def state(self) -> State:
        """The state of this source."""
        return self._source.state if self._source else _NO_SOURCE

    @property
    def retry_ns(self) -> int:
        """The pause after `next` returned None or raised."""
        return self._source.retry_ns if self._source else 0

    def request(self, settings: CameraSettings) -> None:
        """Put the source of these settings in force with the next `apply`. Raises SourceError."""
        address = self._resolve(settings.source)
        ca_file = self._environment.ca_file
        self._requested = Opening(address, settings.scene, settings.video, str(ca_file) if ca_file else None)

    def _resolve(self, named: str | None) -> Address:
        environment = self._environment
        if named is None:
            return environment.source
        address = with_credentials(below(parse_public(named), environment.base), environment.source)
        check_installed(address)
        return address

    def apply(self) -> bool:
        """Do what was requested; True if the source is another one now."""
        opening = self._requested
        if opening is None or opening is self._applied:
            return False
        self._applied = opening
        if self._source is not None and opening.address == self._address:
            self._source.configure(opening.scene, opening.video)
            return False
        self.close()
        self._source, self._address = open_source(opening), opening.address
        logger.info("source %s", self._source)
        return True

    def next(self) -> Picture | None:
        """The next picture of the source; None if there is none now."""
        return self._source.next() if self._source else None

    def close(self) -> None:
        """Close the source."""
        if self._source is not None:
            self._source.close()
