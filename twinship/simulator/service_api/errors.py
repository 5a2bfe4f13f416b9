"""The errors of IoT Hub's REST API (ref 5.1, 5.4): HTTP status, number, name and JSON body."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinship.simulator.common.tokens import ExpressionError
from twinship.simulator.iot_hub.configuration import ConfigurationInvalid
from twinship.simulator.iot_hub.deployments import ConfigurationExists, NoConfiguration
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Unsupported
from twinship.simulator.iot_hub.query.rows import ContinuationInvalid
from twinship.simulator.iot_hub.registry import (
    AlreadyExists,
    InvalidConfiguration,
    NotFound,
    PreconditionFailed,
    SystemModule,
)
from twinship.simulator.iot_hub.twin_limits import TwinRefused
from twinship.simulator.sas import SasRefused


@dataclass(frozen=True)
class Kind:
    """An error of the service: HTTP status, number, name."""

    status: int
    code: int
    name: str


DEVICE_NOT_FOUND = Kind(404, 404001, "DeviceNotFound")
MODULE_NOT_FOUND = Kind(404, 404010, "ModuleNotFound")
NO_SUCH_ADDRESS = Kind(404, 404000, "GenericNotFound")
DEVICE_NOT_ONLINE = Kind(404, 404103, "DeviceNotOnline")
DEVICE_EXISTS = Kind(409, 409001, "DeviceAlreadyExists")
MODULE_EXISTS = Kind(409, 409301, "ModuleAlreadyExistsOnDevice")
TOO_LARGE = Kind(413, 413001, "MessageTooLarge")
ARGUMENT_INVALID = Kind(400, 400004, "ArgumentInvalid")
UNAUTHORIZED = Kind(401, 401003, "IotHubUnauthorizedAccess")
NO_API_VERSION = Kind(400, 400001, "InvalidProtocolVersion")
SERVER_ERROR = Kind(500, 500001, "ServerError")
NOT_IMPLEMENTED = Kind(501, 501000, "NotImplemented")
GATEWAY_TIMEOUT = Kind(504, 504101, "GatewayTimeout")

INVALID_CONTENT = Kind(400, 400402, "InvalidConfigurationContent")

_KINDS: dict[type[Exception], Kind] = {
    PreconditionFailed: Kind(412, 412001, "PreconditionFailed"),
    ConfigurationExists: Kind(409, 409000, "ConfigurationAlreadyExists"),
    NoConfiguration: Kind(404, 404000, "ConfigurationNotFound"),
    InvalidConfiguration: INVALID_CONTENT,
    ConfigurationInvalid: INVALID_CONTENT,
    SystemModule: Kind(403, 403010, "SystemModuleModifyUnauthorizedAccess"),
    ArgumentInvalid: ARGUMENT_INVALID,
    ExpressionError: ARGUMENT_INVALID,
    ContinuationInvalid: ARGUMENT_INVALID,
    TwinRefused: ARGUMENT_INVALID,
    SasRefused: UNAUTHORIZED,
    Unsupported: NOT_IMPLEMENTED,
}


class ServiceError(Exception):
    """An error with its kind. `nested`: the body has the form of direct method errors."""

    def __init__(self, kind: Kind, text: str, *, nested: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.nested = nested

    def to_json(self, now: float) -> dict[str, Any]:
        """The body of the response; `now` is seconds since the epoch."""
        tracking, time = uuid.uuid4().hex.upper(), datetime.fromtimestamp(now, UTC)
        message = f"ErrorCode:{self.kind.name};{self}"
        if self.nested:
            inner = {"errorCode": self.kind.code, "trackingId": tracking, "message": str(self), "info": {}}
            message = json.dumps({**inner, "timestampUtc": time.isoformat()})
        timestamp = f"{time:%m/%d/%Y %H:%M:%S}"
        return {"Message": message, "ExceptionMessage": f"Tracking ID:{tracking}-TimeStamp:{timestamp}"}


def service_error(error: Exception) -> ServiceError | None:
    """The service's error for an error of the registry, a twin or a token; None for an unknown error."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, NotFound):
        return ServiceError(
            DEVICE_NOT_FOUND if error.identity.module is None else MODULE_NOT_FOUND, str(error)
        )
    if isinstance(error, AlreadyExists):
        return ServiceError(DEVICE_EXISTS if error.identity.module is None else MODULE_EXISTS, str(error))
    kind = _KINDS.get(type(error))
    return None if kind is None else ServiceError(kind, str(error))
