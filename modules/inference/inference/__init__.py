"""The inference module: runs the model that the twin names on frames, and publishes the predictions."""
