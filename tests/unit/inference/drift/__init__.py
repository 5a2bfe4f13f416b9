"""Tests of the detection of drift."""
