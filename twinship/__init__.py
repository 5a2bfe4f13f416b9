"""The workbench: command line, demo, bench, operator commands and the simulator."""
