"""A frame as a message: one frame, or several in a batch."""
