"""Measurements of models: the bare interpreter, the module without a hub, and swaps."""
