"""Measurements of models: invoke, module, swap."""
