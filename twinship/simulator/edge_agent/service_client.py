"""A client of the hub's REST API: JSON over TLS with the service's key."""

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
    """The hub answered with an HTTP error `status`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class ConnectionString:
    """HostName=…;SharedAccessKeyName=…;SharedAccessKey=…

    >>> ConnectionString.parse("HostName=127.0.0.1:8443;SharedAccessKeyName=owner;SharedAccessKey=c2V=").host
    '127.0.0.1:8443'
    """

    host: str  # with its port
    policy: str
    key: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Raises ValueError if a field is missing; the error does not contain the text."""
        fields = dict(pair.partition("=")[::2] for pair in text.split(";"))
        try:
            return cls(fields["HostName"], fields["SharedAccessKeyName"], fields["SharedAccessKey"])
        except KeyError as error:
            raise ValueError(f"the connection string has no {error.args[0]}") from None


class ServiceClient:
    """One HTTP session for one event loop. It ignores proxy variables of the environment."""

    def __init__(self, connection: ConnectionString, ca_file: Path) -> None:
        self._connection = connection
        context = ssl.create_default_context(cafile=str(ca_file))
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def call(
        self, method: str, *path: str, body: object = None, timeout_s: float = 10.0, **query: str
    ) -> Any:
        """Returns the JSON of the response, or None for 204. `path` has unquoted segments.

        Raises ServiceRefused for an error status, OSError or TimeoutError if the hub cannot be reached.
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
            ) as response:
                return await _content(response)
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{self._connection.host} cannot be reached: {error}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _token(self) -> str:
        connection = self._connection
        expiry = int(time.time()) + TOKEN_LIFETIME_S
        return sas.sign(connection.key, connection.host, expiry, connection.policy)


async def _content(response: aiohttp.ClientResponse) -> Any:
    if response.status >= 400:
        raise ServiceRefused(response.status, _message(await response.text()))
    try:
        return None if response.status == 204 else await response.json()
    except (ValueError, RecursionError) as error:  # a failure here must not end a task of the agent
        raise ServiceRefused(response.status, f"the answer is not JSON: {error}") from None


def _message(text: str) -> str:
    """The error message without the JSON around it."""
    try:
        return str(json.loads(text)["Message"])
    except (ValueError, KeyError, TypeError):
        return text
