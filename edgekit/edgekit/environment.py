"""Reads environment variables as a manifest sets them."""

from collections.abc import Mapping


def variable(environment: Mapping[str, str], name: str) -> str:
    """The value, or "": a variable that is not defined stays literal in a manifest (ref 7.2).

    >>> variable({"TOKEN": " $TOKEN "}, "TOKEN")
    ''
    """
    value = environment.get(name, "").strip()
    return "" if value in (f"${name}", f"${{{name}}}") else value
