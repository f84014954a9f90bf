"""What an auditor must read stays small: ``python tests/unit/root/test_root_budget.py`` counts."""

import ast
import io
import tokenize
from pathlib import Path

import mep.root

ROOT = Path(mep.root.__file__).parent
LINES = 700
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def code_lines(source: str) -> int:
    """Lines with a token that is no comment, less those of strings that are statements."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_code_lines_counts_neither_comments_nor_docstrings() -> None:
    source = '"""Doc\n\nstring."""\n\n# comment\nx = """a\nb"""  # code, two lines\n\n\n'
    source += 'def f():\n    "doc"\n    return 1\n'
    assert code_lines(source) == 4


def test_budget() -> None:
    counted = {path.name: code_lines(path.read_text()) for path in sorted(ROOT.glob("*.py"))}
    assert sum(counted.values()) <= LINES, counted


if __name__ == "__main__":
    for path in sorted(ROOT.glob("*.py")):
        print(code_lines(path.read_text()), path.name)
