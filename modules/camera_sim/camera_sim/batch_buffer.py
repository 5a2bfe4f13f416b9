"""Frames that wait to go out in one message; sends nothing, and knows no clock."""

from dataclasses import dataclass, field

from edgekit.frame import batch
from edgekit.frame.message import MAX_BODY_BYTES, Frame, Message


@dataclass
class BatchBuffer:
    """Up to a batch of frames in the order of seq. The wait for the others counts as transit."""

    frames: list[Frame] = field(default_factory=list)
    _parts: list[bytes] = field(default_factory=list)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, frame: Frame) -> bool:
        """Take one more; False if no message would hold it beside the others. The first always fits."""
        made = batch.encode(frame)
        if self.frames and self._bytes + len(made) > MAX_BODY_BYTES:
            return False
        self.frames.append(frame)
        self._parts.append(made)
        self._bytes += len(made)
        return True

    def to_message(self) -> Message:
        """All of them, at least one, as one message; a frame that is alone goes as it always does."""
        if len(self.frames) == 1:
            return self.frames[0].to_message()
        return batch.to_message(self.frames, self._parts)
