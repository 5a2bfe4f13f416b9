"""The inference module: frames to predictions, by the model that the twin names."""
