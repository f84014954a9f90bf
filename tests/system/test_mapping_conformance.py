"""The same documents and identities give the same accounts as globus-identity-mapping does.

Where they do not, it is on purpose, and in the table of ``docs/mapping.md``, which is here too.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mep.callout.errors import MappingError
from mep.callout.mapping import compile_document, explain

TOP = Path(__file__).parents[2]
PROVIDERS = ("p-one", "p.two")


class Oracle:
    """The published package, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, documents: Any, identities: Any) -> tuple[str, str | None]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([documents, identities]) + "\n")
        self._process.stdin.flush()
        kind, said = json.loads(self._process.stdout.readline())
        return kind, said


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    made = subprocess.run(
        ["sh", str(TOP / "tools/oracle")], capture_output=True, text=True, timeout=170, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"needs globus-identity-mapping from PyPI: {made.stderr[-300:]}")
    python = Path(made.stdout.strip(), "bin/python")
    with subprocess.Popen(
        [python, "-I", Path(__file__).with_name("mapping_oracle.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Oracle(process)
        assert process.stdin
        process.stdin.close()


def ours(documents: list[dict[str, Any]], identities: list[dict[str, str]]) -> str | None:
    found = explain(compile_document(documents), identities, lambda *_: [])
    return next((one.output for one in found if one.output), None)


class Expression(NamedTuple):
    """An expression: its groups, whether it matches nothing at all, and a text that it matches."""

    text: str
    groups: int
    empty: bool
    sample: str


def join(parts: list[Expression]) -> Expression:
    return Expression(
        "".join(part.text for part in parts),
        sum(part.groups for part in parts),
        all(part.empty for part in parts),
        "".join(part.sample for part in parts),
    )


def either(parts: list[Expression]) -> Expression:
    text = "|".join(part.text for part in parts)
    groups, empty = 1 + sum(part.groups for part in parts), any(part.empty for part in parts)
    return Expression(f"({text})", groups, empty, parts[-1].sample)


def repeated(inner: Expression, mark: str) -> Expression:
    # Who repeats what may be nothing captures differently from one matcher to the next.
    if inner.empty or (mark == "?" and inner.text in ("\\*", "\\?")):
        return inner
    sample = inner.sample * (2 if mark == "*" else 1)
    return Expression(inner.text + mark, inner.groups, True, sample)


characters = st.sampled_from(
    ["a", "b", "A", "@", "-", "x", ".", "\\.", "\\*", "\\(", "\\)", "\\|", "\\?", *"^$+[]{}"]
).map(lambda text: Expression(text, 0, False, text[-1]))
marks = st.sampled_from("*?")
expressions = st.recursive(
    st.lists(characters, min_size=1, max_size=4).map(join),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(either),
        st.builds(repeated, st.lists(inner, min_size=1, max_size=3).map(either), marks),
        st.builds(repeated, characters, marks),
        st.lists(inner, min_size=1, max_size=3).map(join),
    ),
    max_leaves=8,
)
sources = st.sampled_from(
    ["{username}", "{username}", "{identity_provider}:{username}", "x{email}"]
)
words = st.text("abAx@.-*()|\\^$+[]", max_size=8)


@st.composite
def rules(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A rule, and a text that its expression matches."""
    literal = draw(st.booleans()) and draw(st.booleans())
    made = draw(expressions)
    if literal:
        text = draw(st.text("abA@.-*(", min_size=1, max_size=4))
        made = Expression(text, 0, False, text)
    fields = ["username", "id", "email", *map(str, range(made.groups))]
    pieces = [f"{{{name}}}" for name in fields] + ["a", "-", "local"]
    rule = {
        "source": draw(sources),
        "match": made.text,
        "output": "".join(draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=3))),
    }
    flags = {"ignore_case": draw(st.booleans()), "literal": literal}
    given_flags = {key: value for key, value in flags.items() if value or draw(st.booleans())}
    return rule | given_flags, made.sample


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Documents and identities, many of which match one of the rules."""
    raw = draw(st.lists(st.lists(rules(), min_size=1, max_size=3), min_size=1, max_size=2))
    samples = [sample for mappings in raw for _, sample in mappings if "{" not in sample]
    usernames = st.one_of(
        words, st.sampled_from(samples).map(str.swapcase), st.sampled_from(samples)
    )
    people = [
        {
            "id": draw(st.sampled_from(["ab", "a@b", "xx"])) + str(number),
            "status": draw(st.sampled_from(["used", "used", "private", "unused", "closed"])),
            "username": draw(usernames if samples else words),
            "email": draw(words),
            "identity_provider": draw(st.sampled_from(PROVIDERS)),
        }
        for number in range(draw(st.integers(1, 3)))
    ]
    return documents([[rule for rule, _ in mappings] for mappings in raw]), people


def documents(raw: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    kind = "expression_identity_mapping#1.0.0"
    return [{"DATA_TYPE": kind, "mappings": rules} for rules in raw]


ALICE = {
    "id": "1",
    "status": "used",
    "username": "ab@x.a",
    "email": "a",
    "identity_provider": "p-one",
}


def test_the_same_accounts(oracle: Oracle) -> None:
    mapped = 0

    @given(cases())
    @settings(max_examples=500, deadline=None)
    def check(case: Any) -> None:
        nonlocal mapped
        kind, theirs = oracle.ask(*case)
        if kind == "account" and theirs != "":
            assert ours(*case) == theirs
            mapped += theirs is not None
        elif kind == "error":
            # A group that took no part ends theirs; here the rule is passed over.
            assert theirs is not None
            assert "Missing identity property" in theirs

    check()
    assert mapped > 100, "most cases must be more than two refusals"


def rule(match: str, output: str = "local", source: str = "{username}", **more: Any) -> Any:
    return [{"source": source, "match": match, "output": output, **more}]


REFUSED = "refused"
DIFFERENT = {
    "a newline at the end": (rule("(.*)@x\\.a", "{0}"), "ab@x.a\n", "ab", None),
    "case beyond ASCII": (
        rule("k@x", ignore_case=True),
        "\N{KELVIN SIGN}@x",
        "local",
        None,
    ),
    "an inserted value with braces": (rule("(.*)", "{0}{id}"), "{id}", "11", "{id}1"),
    "a missing field": ([*rule(".*", source="{name}"), *rule(".*")], "a", "error", "local"),
    "a group that took no part": ([*rule("(b)|a", "{0}"), *rule("a")], "a", "error", "local"),
    "an output that is empty": ([*rule("(b*)a", "{0}"), *rule("a")], "a", "", "local"),
    "an escaped quotation mark": (rule('\\"a'), '"a', "error", "local"),
    "an escaped * that may be left out": (rule("a\\*?"), "a", "error", "local"),
    "an escaped backslash": (rule("\\\\a"), "\\a", "error", "local"),
    "a reference to a group": (rule("(a)\\1"), "aa", "local", REFUSED),
    "extensions of Python": (rule("(?:a)(?i:b)"), "aB", "local", REFUSED),
    "a counted group from the end": (rule("(a)(b)", "{-1}"), "ab", "b", REFUSED),
    "a group that there is not": (rule("a", "{0}"), "a", "error", REFUSED),
    "a brace that is none": (rule("a", "x{"), "a", "x{", REFUSED),
    "an escaped field": (rule("a", "\\{id}"), "a", "\\{id}", REFUSED),
    "a backslash in literal text": (rule("a\\\\b", literal=True), "a\\\\b", None, "local"),
    "an unknown key": (rule("a", ignorecase=True), "A", None, REFUSED),
    "a part of the document that is missing": ([{"match": "a"}], "a", "error", REFUSED),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_does_so_on_purpose(oracle: Oracle, name: str) -> None:
    raw, username, theirs, expected = DIFFERENT[name]
    people = [ALICE | {"username": username}]
    kind, said = oracle.ask(documents([raw]), people)
    assert (said if kind == "account" else kind) == theirs
    if expected == REFUSED:
        with pytest.raises(MappingError):
            compile_document(documents([raw]))
    else:
        assert ours(documents([raw]), people) == expected


def test_the_table_is_in_the_documentation() -> None:
    page = (TOP / "docs/mapping.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [name for name in DIFFERENT if name not in rows] == []
