"""Stores artefacts in Azure Blob Storage, and makes addresses that allow reading one blob for some days.

Such an address carries a service SAS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from inference.model_section import ModelRef
from twinship.fleet.artefact_store import ArtefactStore, CannotStore
from twinship.fleet.connection import refuse_placeholder

CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
MAX_VALID_DAYS = 36_500
CLOCK_SKEW = timedelta(minutes=15)  # the account's clock may be behind ours


@dataclass(frozen=True)
class BlobOptions:
    """The container, and the number of days for which an address is valid."""

    container: str = "models"
    valid_days: float = 30.0


def blob_store(variables: Mapping[str, str], options: BlobOptions) -> ArtefactStore:
    """Upload artefacts to the account of AZURE_STORAGE_CONNECTION_STRING. Raises CannotStore, NotConfigured.

    A blob's name contains the digest, so publishing the same artefact again uploads and changes nothing.
    """
    text = variables.get(CONNECTION_VARIABLE, "")
    if not text:
        raise CannotStore(
            f"{CONNECTION_VARIABLE} is neither in the environment nor in .env; cure: az storage account "
            "show-connection-string --name ACCOUNT"
        )
    refuse_placeholder(CONNECTION_VARIABLE, text)
    if not 0 < options.valid_days <= MAX_VALID_DAYS:
        raise CannotStore(
            f"an address cannot be valid for {options.valid_days:g} days; cure: --valid-days 30"
        )

    def store(ref: ModelRef, data: bytes) -> str:
        with _one_line_errors(options.container):
            return _upload(text, options, ref, data)

    return store


def _upload(text: str, options: BlobOptions, ref: ModelRef, data: bytes) -> str:
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import BlobServiceClient

    service = BlobServiceClient.from_connection_string(
        text, connection_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retry_total=0
    )
    with service:
        key = _account_key(service)
        if not service.url.startswith("https://"):
            raise CannotStore(
                f"{CONNECTION_VARIABLE} names an http address, and devices download only by https; "
                "cure: an https BlobEndpoint (azurite --cert --key)"
            )
        container = service.get_container_client(options.container)
        blob = container.get_blob_client(f"{ref.name}/{ref.version}/{ref.sha256}.tflite")
        with suppress(ResourceExistsError):
            container.create_container()
        with suppress(ResourceExistsError):
            blob.upload_blob(data, overwrite=False)
        return f"{blob.url}?{_read_only_sas(key, blob, options.valid_days)}"


def _account_key(service: Any) -> str:
    key = getattr(service.credential, "account_key", None)
    if not key:
        raise CannotStore(
            f"{CONNECTION_VARIABLE} has no AccountKey, which signs the addresses; cure: copy the "
            "string of one of the account's keys, or upload the model yourself and use publish --url"
        )
    return str(key)


def _read_only_sas(key: str, blob: Any, valid_days: float) -> str:
    from azure.storage.blob import BlobSasPermissions, generate_blob_sas

    now = datetime.now(UTC)
    return str(
        generate_blob_sas(
            blob.account_name,
            blob.container_name,
            blob.blob_name,
            account_key=key,
            permission=BlobSasPermissions(read=True),
            start=now - CLOCK_SKEW,
            expiry=now + timedelta(days=valid_days),
            protocol="https",
        )
    )


@contextmanager
def _one_line_errors(container: str) -> Iterator[None]:
    """Turn every error of the SDK into one line without a key or a signature."""
    from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

    try:
        yield
    except ServiceRequestError as error:
        why = "its certificate is not trusted" if "CERTIFICATE" in str(error) else "it cannot be reached"
        raise CannotStore(
            f"the storage account of {CONNECTION_VARIABLE}: {why}; cure: check BlobEndpoint and the network "
            "(REQUESTS_CA_BUNDLE for a private certificate authority)"
        ) from error
    except HttpResponseError as error:
        reason = getattr(error, "error_code", None) or error.reason or "no reason given"
        reason = getattr(reason, "value", reason)  # the SDK's own enumeration
        raise CannotStore(
            f"the storage account refuses container {container!r} or the blob "
            f"({error.status_code}: {reason}); "
            f"cure: check the key in {CONNECTION_VARIABLE} and the container's name"
        ) from error
    except (AzureError, ValueError) as error:
        # Not chained: a parser may quote what it could not read.
        raise CannotStore(
            f"{CONNECTION_VARIABLE} cannot be used ({type(error).__name__}); "
            "cure: copy it again, and copy all of it"
        ) from None
