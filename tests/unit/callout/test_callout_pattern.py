import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.callout.pattern import Pattern, PatternError

SUBSET = [
    # expression, text, groups (None: no match)
    ("alice", "alice", []),
    ("alice", "alice\n", None),
    ("alice", "xalice", None),
    ("alice", "alicex", None),
    ("alice", "Alice", None),
    ("a.c", "abc", []),
    ("a.c", "a\nc", None),
    ("a.c", "ac", None),
    (r"a\.c", "a.c", []),
    (r"a\.c", "abc", None),
    ("ab?c", "ac", []),
    ("ab?c", "abbc", None),
    ("ab*c", "abbbc", []),
    ("a|b", "b", []),
    ("a|b", "ab", None),
    ("(.*)@example\\.org", "alice@example.org", ["alice"]),
    ("(.*)@example\\.org", "alice@example.org\n", None),
    ("(.*)@example\\.org", "alice@example.org.evil", None),
    ("(.*)@(.*)", "a@b@c", ["a@b", "c"]),
    ("(a|b)c", "bc", ["b"]),
    ("(a)|(b)", "b", [None, "b"]),
    ("((a)b)c", "abc", ["ab", "a"]),
    ("(ab)*", "abab", ["ab"]),
    ("(a*)*", "aaa", ["aaa"]),
    ("", "", []),
    ("", "a", None),
    ("x()y", "xy", [""]),
    # literal, however special they are elsewhere
    ("^a$", "^a$", []),
    ("^a$", "a", None),
    ("a+", "a+", []),
    ("a+", "aa", None),
    ("[ab]", "[ab]", []),
    ("[ab]", "a", None),
    ("a{2}", "a{2}", []),
    ("a{2}", "aa", None),
    (r"\(a\)", "(a)", []),
    (r"\*\?\|\"\\", '*?|"\\', []),
]


@pytest.mark.parametrize(("expression", "text", "groups"), SUBSET)
def test_the_documented_subset(expression: str, text: str, groups: list[str] | None) -> None:
    assert Pattern(expression).match(text) == groups


@pytest.mark.parametrize(
    "expression",
    ["*", "?a", "*a", "a**", "a*?", "a??", "a?*", "(*a)", "(?:a)", "a|*", "(a", "a)", "(", ")",
     "\\", "\\d", "\\n", "\\1", "\\^", "a\\", "(" * 5000],
)  # fmt: skip
def test_what_is_no_expression(expression: str) -> None:
    with pytest.raises(PatternError):
        Pattern(expression)


def test_many_alternatives_are_no_nesting() -> None:
    names = [f"user{number}" for number in range(3000)]
    pattern = Pattern(f"({'|'.join(names)})@x")
    assert pattern.match("user2999@x") == ["user2999"]
    assert pattern.match("user3000@x") is None


def test_case_is_ascii_case() -> None:
    assert Pattern("kelly", ignore_case=True).match("KeLLy") == []
    assert Pattern("KELLY", ignore_case=True).match("kelly") == []
    assert Pattern("kelly", ignore_case=True).match("\N{KELVIN SIGN}elly") is None
    assert Pattern("(.*)", ignore_case=True).match("MiXed") == ["MiXed"]


def test_literal_is_literal() -> None:
    assert Pattern("(.*)", literal=True).match("(.*)") == []
    assert Pattern("(.*)", literal=True).match("x") is None
    assert Pattern("a\\b", literal=True).match("a\\b") == []
    assert Pattern("AB", literal=True, ignore_case=True).match("ab") == []


EVIL = [
    "(a*)*b",
    "(a|a)*b",
    "(a|aa)*b",
    "(.*)*(.*)*(.*)*b",
    ".*.*.*.*.*.*.*.*b",
    "(a?a?)*b",
    "((a*)*)*b",
]


@pytest.mark.parametrize("expression", EVIL)
def test_no_text_takes_longer_than_its_length(expression: str) -> None:
    """`re` would not come back from these before the next ice age; the test would time out."""
    assert Pattern(expression).match("a" * 1024) is None
    assert Pattern(expression).match("a" * 1024 + "b") is not None


letters = st.sampled_from("ab")
expressions = st.recursive(
    st.sampled_from(["a", "b", ".", "\\."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join).map("({})".format),
        inner.map("({})".format),
        inner.map("({})*".format),
        inner.map("({})?".format),
    ),
    max_leaves=8,
)


@given(expressions, st.text("ab.", max_size=8))
def test_agrees_with_the_standard_library(expression: str, text: str) -> None:
    """On expressions that mean the same to both, and texts short enough for `re`."""
    found, expected = Pattern(expression).match(text), re.fullmatch(expression, text)
    assert (found is None) == (expected is None)


@given(st.text('ab.?*|()\\"^${}[]+'), st.text("ab"))
def test_anything_is_an_expression_or_an_error(expression: str, text: str) -> None:
    try:
        pattern = Pattern(expression)
    except PatternError:
        return
    found = pattern.match(text)
    assert found is None or len(found) == pattern.groups
