"""edgeAgent: runs the modules of the manifest as processes and reports their state."""
