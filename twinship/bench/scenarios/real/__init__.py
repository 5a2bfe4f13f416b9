"""Photographs and a large model through the whole path: a frame costs milliseconds, not microseconds."""
