"""Simulator and modules as processes, for one measurement."""
