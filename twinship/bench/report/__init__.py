"""The report: figures from samples, thresholds, comparison, and the page for people."""
