"""The report of the bench: figures, thresholds, comparison, HTML page."""
