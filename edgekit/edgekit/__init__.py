"""Shared by Twinship's modules: frame messages, hub connection, lifecycle, settings, logs, metrics."""
