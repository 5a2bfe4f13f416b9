"""The message formats of a frame: alone, or several in a batch."""
