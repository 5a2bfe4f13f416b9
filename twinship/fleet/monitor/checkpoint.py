"""The position of a reader in each partition of an event endpoint, in a file of its own (mode 0600)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinship.fleet import FleetError

SCHEMA = "twinship.checkpoint.v1"
MAX_BYTES = 65_536  # the largest Event Hub has 1,024 partitions; the one of an IoT Hub at most 128


class BadCheckpoint(FleetError):
    """The file is no checkpoint of this endpoint and consumer group, or cannot be read or written."""


@dataclass(frozen=True)
class Checkpoint:
    """A file for one endpoint (host/entity) and one consumer group."""

    path: Path
    endpoint: str
    consumer_group: str

    def load(self) -> dict[str, str]:
        """Partition → offset of the last printed event; {} without a file. Raises BadCheckpoint."""
        try:
            with self.path.open("rb") as file:
                content = json.loads(file.read(MAX_BYTES))
            owner = (content["schema"], content["endpoint"], content["consumerGroup"])
            offsets = {str(partition): str(offset) for partition, offset in content["offsets"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise BadCheckpoint(f"{self.path} cannot be read ({error.strerror})") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise BadCheckpoint(f"{self.path} is no checkpoint; cure: name another file") from None
        if owner != (SCHEMA, self.endpoint, self.consumer_group):
            raise BadCheckpoint(
                f"{self.path} is the checkpoint of consumer group {owner[2]} at {owner[1]}, not of "
                f"{self.consumer_group} at {self.endpoint}; cure: name another file"
            )
        return offsets

    def save(self, offsets: Mapping[str, str]) -> None:
        """Replace the file in one step. Raises BadCheckpoint."""
        content = {
            "schema": SCHEMA,
            "endpoint": self.endpoint,
            "consumerGroup": self.consumer_group,
            "offsets": dict(offsets),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:  # mkstemp makes a file of mode 0600
                with os.fdopen(descriptor, "w") as file:
                    file.write(json.dumps(content) + "\n")
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise BadCheckpoint(f"{self.path} cannot be written ({error.strerror})") from error
