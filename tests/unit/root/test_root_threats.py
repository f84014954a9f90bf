"""The table of threats names tests that are there."""

import re
from pathlib import Path

TOP = Path(__file__).parents[3]


def test_every_defence_has_its_test() -> None:
    page = (TOP / "docs/security.md").read_text()
    table = page[page.index("## Threats") :]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    written = "\n".join(path.read_text() for path in (TOP / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", written, re.MULTILINE))
    assert len(rows) > 20
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= there, named - there
