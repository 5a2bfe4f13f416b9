"""Fuzzing: every parser of a stranger's bytes, with atheris. See CONTRIBUTING.md."""
