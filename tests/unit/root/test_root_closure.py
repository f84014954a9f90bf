"""What runs as root imports the standard library and itself, and the list is looked at.

``closure.txt`` beside this file is what an auditor has agreed to. A change of it is a decision:
``python tests/unit/root/test_root_closure.py > tests/unit/root/closure.txt``.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mep.root

ROOT = Path(mep.root.__file__).parent
AGREED = Path(__file__).with_name("closure.txt")
PYTHON = (3, 11)
"""Whose standard library the agreed list is of."""


def closure() -> list[str]:
    """The public modules that the warden's program imports, as the interpreter itself tells."""
    done = subprocess.run(
        [sys.executable, "-v", "-I", "-S", str(ROOT / "__main__.py"), *["/nowhere"] * 4, "3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "mep-warden: " in done.stderr
    names = set(re.findall(r"^import '?([\w.]+)'? #", done.stderr, re.MULTILINE))
    ours = {name for name in names if name.startswith("mep")}
    public = {name.partition(".")[0] for name in names - ours if not name.startswith("_")}
    return sorted(ours | public)


def test_only_the_standard_library_and_itself() -> None:
    foreign = {name for name in closure() if not name.startswith("mep.root")}
    assert foreign <= sys.stdlib_module_names


@pytest.mark.skipif(sys.version_info[:2] != PYTHON, reason=f"the list is of Python {PYTHON}")
def test_the_closure_is_the_one_agreed_on() -> None:
    assert closure() == AGREED.read_text().split()


def test_nothing_is_imported_later() -> None:
    """So that the list above is all there is."""
    for path in ROOT.glob("*.py"):
        if path.name == "__main__.py":
            continue
        tree = ast.parse(path.read_text())
        nested = {
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert not nested, path


if __name__ == "__main__":
    print("\n".join(closure()))
