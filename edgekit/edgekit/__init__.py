"""What Twinship's modules share: frames, a module's life on the hub, logs, metrics; no model, no camera."""
