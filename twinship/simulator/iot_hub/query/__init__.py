"""The query language for twins."""
