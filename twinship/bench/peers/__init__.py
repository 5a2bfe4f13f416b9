"""The other programs that the bench runs beside ours."""
