"""Models in Azure Blob Storage: uploads, and makes an address that lets its holder read that one blob for a
while (a service SAS). Knows no twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from inference.model_section import ModelRef
from twinship.fleet.connection import refuse_placeholder
from twinship.fleet.places import ArtefactStore, BlobOptions, CannotStore

CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
CLOCK_SKEW = timedelta(minutes=15)  # the account's clock may be behind ours


def uploading(variables: Mapping[str, str], options: BlobOptions) -> ArtefactStore:
    """Puts artefacts into the account of AZURE_STORAGE_CONNECTION_STRING. Raises CannotStore, NotConfigured.

    A blob's name holds the digest, so that publishing again uploads nothing and changes nothing.
    """
    text = variables.get(CONNECTION_VARIABLE, "")
    if not text:
        raise CannotStore(
            f"{CONNECTION_VARIABLE} is neither in the environment nor in .env; cure: az storage account "
            "show-connection-string --name ACCOUNT"
        )
    refuse_placeholder(CONNECTION_VARIABLE, text)
    if not options.days > 0:
        raise CannotStore(f"an address cannot be good for {options.days:g} days; cure: --valid-days 30")

    def put(ref: ModelRef, data: bytes) -> str:
        with _one_line(options.container):
            return _uploaded(text, options, ref, data)

    return put


def _uploaded(text: str, options: BlobOptions, ref: ModelRef, data: bytes) -> str:
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import BlobServiceClient

    service = BlobServiceClient.from_connection_string(
        text, connection_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retry_total=0
    )
    with service:
        key = _account_key(service)
        if not service.url.startswith("https://"):
            raise CannotStore(
                f"{CONNECTION_VARIABLE} names an http address, which no device takes a model from; "
                "cure: an https BlobEndpoint (azurite --cert --key)"
            )
        container = service.get_container_client(options.container)
        blob = container.get_blob_client(f"{ref.name}/{ref.version}/{ref.sha256}.tflite")
        with suppress(ResourceExistsError):
            container.create_container()
        with suppress(ResourceExistsError):
            blob.upload_blob(data, overwrite=False)
        return f"{blob.url}?{_read_only_sas(key, blob, options.days)}"


def _account_key(service: Any) -> str:
    key = getattr(service.credential, "account_key", None)
    if not key:
        raise CannotStore(
            f"{CONNECTION_VARIABLE} has no AccountKey, with which addresses are signed; cure: copy the "
            "string of one of the account's keys, or upload by yourself and publish --url"
        )
    return str(key)


def _read_only_sas(key: str, blob: Any, days: float) -> str:
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
            expiry=now + timedelta(days=days),
            protocol="https",
        )
    )


@contextmanager
def _one_line(container: str) -> Iterator[None]:
    """Whatever the SDK raises, as one line that holds neither key nor signature."""
    from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

    try:
        yield
    except ServiceRequestError as error:
        why = "its certificate is not trusted" if "CERTIFICATE" in str(error) else "it cannot be reached"
        raise CannotStore(
            f"the storage account of {CONNECTION_VARIABLE}: {why}; cure: check BlobEndpoint and the network "
            "(REQUESTS_CA_BUNDLE for an authority of your own)"
        ) from error
    except HttpResponseError as error:
        said = getattr(error, "error_code", None) or error.reason or "no reason given"
        said = getattr(said, "value", said)  # the SDK's own enumeration
        raise CannotStore(
            f"the storage account refuses container {container!r} or the blob ({error.status_code}: {said}); "
            f"cure: check the key in {CONNECTION_VARIABLE} and the container's name"
        ) from error
    except (AzureError, ValueError) as error:
        # Not chained: a parser may quote what it could not read.
        raise CannotStore(
            f"{CONNECTION_VARIABLE} cannot be used ({type(error).__name__}); cure: copy it again, to its end"
        ) from None
