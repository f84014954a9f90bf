"""Checks what documentation promises: links that lead somewhere, modules that say what they are.

Usage: ``python tools/check_docs.py``. Prints one line a fault; exit status 1 if there is any.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PACKAGES = ("mep", "sdk/mep_sdk", "cloud/mep_cloud")
COMMANDS = ("mep", "mep-relay")
LINK = re.compile(r"\]\(([^)\s]+)\)")
REMOTE = re.compile(r"[a-z]+:")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# A verb where a command is meant: in a code span, or on a line of its own.
TYPED = r"(?:`|^|\bsudo |\$ ){} ([a-z][a-z-]+)"
VERBS = re.compile(r"^  ([a-z][a-z-]*)(?:  |$)", re.MULTILINE)


def main() -> int:
    faults = [*dead_links(), *silent_modules(), *unknown_verbs()]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def pages() -> list[Path]:
    return sorted(
        page
        for page in TOP.rglob("*.md")
        if not {".venv", "dist", "build"} & set(page.relative_to(TOP).parts)
    )


def dead_links() -> Iterator[str]:
    """Relative links to a file that is not there, or to a heading that the page does not have."""
    for page in pages():
        for target in LINK.findall(FENCE.sub("", page.read_text())):
            if REMOTE.match(target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name) if name else page
            if not file.exists():
                yield f"{page.relative_to(TOP)}: no such file: {target}"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                yield f"{page.relative_to(TOP)}: no such heading: {target}"


def anchors(text: str) -> set[str]:
    """The anchors that a renderer gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def silent_modules() -> Iterator[str]:
    """Modules of ours without a docstring."""
    for package in PACKAGES:
        for module in sorted((TOP / package).rglob("*.py")):
            if not ast.get_docstring(ast.parse(module.read_text())):
                yield f"{module.relative_to(TOP)}: the module has no docstring"


def unknown_verbs() -> Iterator[str]:
    """Commands that a page tells its reader to type and that do not exist."""
    for command in COMMANDS:
        known = verbs(command)
        if not known:
            yield f"`{command} --help` lists no commands"
        for page in pages():
            for verb in re.findall(TYPED.format(command), page.read_text(), re.MULTILINE):
                if verb not in known:
                    yield f"{page.relative_to(TOP)}: there is no command `{command} {verb}`"


def verbs(command: str) -> set[str]:
    """The verbs that ``COMMAND --help`` lists; none when it fails, which tests tell better."""
    program = Path(sys.executable).with_name(command)
    done = subprocess.run(
        [program, "--help"], check=False, capture_output=True, text=True, timeout=60
    )
    _, *listed = re.split(r"\n(?:Commands|Verbs):", done.stdout, maxsplit=1)
    return set(VERBS.findall("".join(listed)))


if __name__ == "__main__":
    sys.exit(main())
