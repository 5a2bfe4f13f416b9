"""Faults that a test or an operator switches on while the simulator runs."""
