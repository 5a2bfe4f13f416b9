"""The networks, their training settings, and how one training step runs."""
