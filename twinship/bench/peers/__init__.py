"""Programs that the bench measures beside Twinship, as child processes."""
