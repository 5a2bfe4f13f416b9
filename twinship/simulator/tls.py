"""TLS for one accepted connection: records towards the socket, plain bytes towards the application.

Stands in for asyncio's own TLS, which takes 40 microseconds more for a small message from one module to the
next: a read that found all there is raises nothing here, and one buffer serves all of a listener.
Server side only; knows no MQTT.

    HANDSHAKE --done--> OPEN --close(), or the peer's goodbye--> CLOSING --both have said it--> CLOSED
"""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

logger = logging.getLogger(__name__)

HANDSHAKE_S: Final = 10.0
GOODBYE_S: Final = 1.0  # how long a close waits for a peer that does not answer it
RECORD_BYTES: Final = 16_384  # the most that one record holds, so the most that one read returns
RECEIVE_BYTES: Final = 262_144  # the most that is taken from a socket at once
MAX_UNSENT_BYTES: Final = 524_288  # above, the application is told to pause; asyncio's TLS has the same


class Tls:
    """What the connections of one listener share: its context, and the buffer that each fills and empties."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.buffer = memoryview(bytearray(RECEIVE_BYTES))

    def connection(self, application: Callable[[], asyncio.Protocol]) -> TlsTransport:
        """For a server's next connection; `application` is made once the handshake is done."""
        return TlsTransport(self, application)


class _State(enum.Enum):
    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class TlsTransport(asyncio.BufferedProtocol, asyncio.Transport):
    """The socket's protocol and the application's transport."""

    def __init__(self, tls: Tls, application: Callable[[], asyncio.Protocol]) -> None:
        super().__init__()
        self._buffer = tls.buffer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._make_application = application
        self._application: asyncio.Protocol
        self._socket: asyncio.Transport
        self._state = _State.HANDSHAKE
        self._paused = False
        self._error: Exception | None = None
        self._alarm: asyncio.TimerHandle | None = None

    # What the socket calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        self._socket.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._abort_after(HANDSHAKE_S)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(self._buffer[:nbytes])
        try:
            if self._state is _State.OPEN:
                self._read()
            elif self._state is _State.HANDSHAKE:
                self._handshake()
            elif self._state is _State.CLOSING:
                self._await_goodbye()
        except ssl.SSLError as error:
            self._fail(error)

    def eof_received(self) -> None:
        """The peer left without a goodbye: all that it said has been read, and the socket closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        before, self._state = self._state, _State.CLOSED
        if self._alarm is not None:
            self._alarm.cancel()
        if before is not _State.HANDSHAKE:
            self._application.connection_lost(exc or self._error)

    def pause_writing(self) -> None:
        if self._state is _State.OPEN:
            self._application.pause_writing()

    def resume_writing(self) -> None:
        if self._state is _State.OPEN:
            self._application.resume_writing()

    # What the application calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._state is not _State.OPEN

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._state is not _State.OPEN:
            return
        written = self._tls.write(data)
        while written < len(data):
            written += self._tls.write(memoryview(data)[written:])
        self._socket.write(self._outgoing.read())

    def pause_reading(self) -> None:
        self._paused = True
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._socket.resume_reading()
        if self._incoming.pending:
            asyncio.get_running_loop().call_soon(self.buffer_updated, 0)

    def close(self) -> None:
        """Send what was written and a goodbye, and wait a moment for the peer's."""
        if self._state is not _State.OPEN:
            return
        self._state = _State.CLOSING
        self._abort_after(GOODBYE_S)
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # said, and not answered yet
            self._flush()
            self._socket.resume_reading()
            self.buffer_updated(0)
        else:
            self._flush()
            self._socket.close()

    def abort(self) -> None:
        """Close at once; what is not sent is lost."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
        self._socket.abort()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        self._flush()
        assert self._alarm is not None
        self._alarm.cancel()
        self._application = self._make_application()
        self._state = _State.OPEN
        self._application.connection_made(self)
        self._read()

    def _read(self) -> None:
        """Hand on everything that is whole, at once."""
        pieces, ended = [], False
        try:
            while self._incoming.pending and not self._paused and not ended:
                if piece := self._tls.read(RECORD_BYTES):
                    pieces.append(piece)
                else:
                    ended = True
        except ssl.SSLWantReadError:
            pass  # half a record
        if self._outgoing.pending:  # an answer of TLS itself
            self._flush()
        if pieces:
            self._application.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended:
            self.close()

    def _await_goodbye(self) -> None:
        """What the peer says before it is not heard any more."""
        try:
            while self._incoming.pending:
                self._tls.read(RECORD_BYTES)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # its goodbye, after ours
            self._socket.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._socket.write(data)

    def _fail(self, error: ssl.SSLError) -> None:
        """The peer does not speak TLS, or not this one: tell it why, if that can be told, and close."""
        logger.debug("TLS failed: %s", error)
        self._error = error
        self._flush()
        self.abort()

    def _abort_after(self, delay_s: float) -> None:
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self.abort)
