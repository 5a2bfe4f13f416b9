"""Collects the frames of the next message."""

from dataclasses import dataclass, field

from edgekit.frame import batch
from edgekit.frame.message import MAX_BODY_BYTES, Frame, Message


@dataclass
class BatchBuffer:
    """Frames of one run, ascending by seq. Their wait in the buffer counts as stage `transit`."""

    frames: list[Frame] = field(default_factory=list)
    _encoded: list[bytes] = field(default_factory=list)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, frame: Frame) -> bool:
        """Add a frame; False if the message would become too large. An empty buffer accepts any frame."""
        encoded = batch.encode(frame)
        if self.frames and self._bytes + len(encoded) > MAX_BODY_BYTES:
            return False
        self.frames.append(frame)
        self._encoded.append(encoded)
        self._bytes += len(encoded)
        return True

    def to_message(self) -> Message:
        """All frames, at least one, as one message; a single frame has the format of a single frame."""
        if len(self.frames) == 1:
            return self.frames[0].to_message()
        return batch.to_message(self.frames, self._encoded)
