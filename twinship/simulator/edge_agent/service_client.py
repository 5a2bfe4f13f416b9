"""A small client of the hub's REST API: JSON over TLS with the service's key. Knows no route."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from twinship.simulator import sas

API_VERSION = "2021-04-12"
TOKEN_LIFETIME_S = 300


class ServiceRefused(Exception):
    """The hub answered, and said no. `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class ConnectionString:
    """HostName=…;SharedAccessKeyName=…;SharedAccessKey=…"""

    host: str  # with its port
    policy: str
    key: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Raises ValueError, without repeating the text, when a part is missing."""
        parts = dict(part.partition("=")[::2] for part in text.split(";"))
        try:
            return cls(parts["HostName"], parts["SharedAccessKeyName"], parts["SharedAccessKey"])
        except KeyError as error:
            raise ValueError(f"the connection string has no {error.args[0]}") from None


class ServiceClient:
    """One session, used and closed in one event loop. Uses no proxy, whatever the environment says."""

    def __init__(self, connection: ConnectionString, ca_file: Path) -> None:
        self._connection = connection
        context = ssl.create_default_context(cafile=str(ca_file))
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def call(
        self, method: str, *path: str, body: object = None, timeout_s: float = 10.0, **query: str
    ) -> Any:
        """The JSON of the answer, None when it has none. `path` is its segments, unquoted.

        Raises ServiceRefused for an error status, OSError or TimeoutError when the hub cannot be reached.
        """
        address = f"https://{self._connection.host}/{'/'.join(quote(segment, safe='$') for segment in path)}"
        try:
            async with self._session.request(
                method,
                address,
                params={"api-version": API_VERSION, **query},
                json=body,
                headers={"Authorization": self._token()},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                return await _content(answer)
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{self._connection.host} cannot be reached: {error}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _token(self) -> str:
        connection = self._connection
        expiry = int(time.time()) + TOKEN_LIFETIME_S
        return sas.sign(connection.key, connection.host, expiry, connection.policy)


async def _content(answer: aiohttp.ClientResponse) -> Any:
    if answer.status >= 400:
        raise ServiceRefused(answer.status, _message(await answer.text()))
    return None if answer.status == 204 else await answer.json()


def _message(text: str) -> str:
    """What the service says of its error, without the JSON around it."""
    try:
        return str(json.loads(text)["Message"])
    except (ValueError, KeyError, TypeError):
        return text
