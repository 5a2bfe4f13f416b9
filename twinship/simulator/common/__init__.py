"""What every part of the simulator uses: private files, and log lines of printable text."""
