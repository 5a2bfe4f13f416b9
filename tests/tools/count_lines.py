"""Count the lines of code of every *.py file outside tests, without blank lines, comments and docstrings.

    python tests/tools/count_lines.py [FOLDER]

Prints the lines of each top folder and the total. A line counts if a token of code is on it. A string that is
a statement of its own (a docstring) does not count.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_SKIPPED = {"tests", "build", "dist", "node_modules", "__pycache__"}


def code_lines(source: str) -> int:
    r"""The number of lines that hold code.

    >>> code_lines("'A docstring.'\n\nx = 1  # a comment\n# another\ny = (\n\n    2,\n)\n")
    4
    """
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(1 for number, line in enumerate(source.splitlines(), 1) if number in lines and line.strip())


def count(root: Path) -> Counter[str]:
    """Top folder → lines of code; files at the top count as '.'."""
    totals: Counter[str] = Counter()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not any(part in _SKIPPED or part.startswith(".") for part in parts):
            top = parts[0] if len(parts) > 1 else "."
            totals[top] += code_lines(path.read_text(encoding="utf-8"))
    return totals


if __name__ == "__main__":
    totals = count(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    for folder, lines in sorted(totals.items()):
        print(f"{lines:8,} {folder}")
    print(f"{totals.total():8,} total")
