import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.callout.errors import MappingError
from mep.callout.mapping import (
    Answer,
    External,
    Finding,
    compile_document,
    compile_text,
    explain,
)
from mep.callout.remarks import remarks

ALICE = {"id": "1", "status": "used", "username": "alice@example.org", "name": "Alice {0} {id}"}
OTHER = {"id": "2", "status": "used", "username": "ali@lab.example"}


def expression(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": list(rules)}


def rule(match: str, output: str, source: str = "{username}", **more: Any) -> dict[str, Any]:
    return {"source": source, "match": match, "output": output, **more}


def external(*command: Any) -> dict[str, Any]:
    return {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": list(command)}


def nobody(asked: External, identities: list[dict[str, str]]) -> list[Answer]:
    raise AssertionError("no command was to be run")


def findings(document: object, *people: dict[str, str], run: Any = nobody) -> list[Finding]:
    return list(explain(compile_document(document), list(people), run))


def mapped(document: object, *people: dict[str, str], run: Any = nobody) -> str | None:
    found = explain(compile_document(document), list(people), run)
    return next((one.output for one in found if one.output), None)


def test_groups_and_fields_go_into_the_output() -> None:
    assert mapped(expression(rule("(.*)@example\\.org", "{0}-{id}")), ALICE) == "alice-1"


def test_an_output_is_inserted_once() -> None:
    assert mapped(expression(rule(".*", "{name}")), ALICE) == "Alice {0} {id}"
    document = expression(rule("(.*)", "x{0}", source="{name}"))
    assert mapped(document, ALICE) == "xAlice {0} {id}"


def test_first_match_wins_document_then_rule_then_identity() -> None:
    both = [
        expression(rule("nobody", "wrong"), rule("(.*)@lab\\.example", "first")),
        expression(rule("(.*)@.*", "second")),
    ]
    assert mapped(both, ALICE, OTHER) == "first"
    assert mapped(expression(rule("(.*)@.*", "{0}")), OTHER, ALICE) == "ali"


@pytest.mark.parametrize("status", ["unused", "closed", "", "USED"])
def test_only_identities_in_use_count(status: str) -> None:
    assert mapped(expression(rule(".*", "x")), {**ALICE, "status": status}) is None
    assert mapped(expression(rule(".*", "x")), {**ALICE, "status": "private"}) == "x"


def test_a_missing_field_is_no_match() -> None:
    assert mapped(expression(rule("", "x", source="{email}")), ALICE) is None
    assert mapped(expression(rule(".*", "{email}")), ALICE) is None
    assert [one.why for one in findings(expression(rule("", "x", source="{email}")), ALICE)] == [
        "a field of the source is missing"
    ]


def test_an_empty_output_is_no_match() -> None:
    document = expression(rule("(x*).*", "{0}"), rule(".*", "next"))
    assert mapped(document, ALICE) == "next"


def test_a_group_that_took_no_part_is_no_match() -> None:
    assert mapped(expression(rule("(a)|(.*)", "{0}")), ALICE) is None


def test_a_trailing_newline_never_matches() -> None:
    evil = {**ALICE, "username": "alice@example.org\n"}
    assert mapped(expression(rule("(.*)@example\\.org", "{0}")), evil) is None


def test_literal_and_ignore_case() -> None:
    assert mapped(expression(rule("ALICE@EXAMPLE.ORG", "x", ignore_case=True)), ALICE) == "x"
    assert mapped(expression(rule("ALICE@EXAMPLE.ORG", "x")), ALICE) is None
    assert mapped(expression(rule("alice.*", "x", literal=True)), ALICE) is None


def test_every_rule_is_explained() -> None:
    first, second = findings(expression(rule("bob.*", "bob"), rule("(.*)@.*", "{0}")), ALICE)
    assert (first.rule, first.output, first.why) == ("$.mappings[0]", None, "does not match")
    assert first.source == "alice@example.org"
    assert json.loads(first.text) == rule("bob.*", "bob")
    assert (second.rule, second.output, second.why) == ("$.mappings[1]", "alice", "matches")


def test_a_command_is_asked_about_identities_in_use() -> None:
    asked = []

    def run(one: External, identities: list[dict[str, str]]) -> list[Answer]:
        asked.append((one.command, identities))
        return [Answer("1", ""), Answer("1", "alice"), Answer("2", "other")]

    unused = {**OTHER, "status": "unused"}
    assert mapped(external("/bin/map", 1, "-x"), ALICE, unused, run=run) == "alice"
    assert asked == [(["/bin/map", "1", "-x"], [ALICE])]


def test_nobody_in_use_asks_no_command() -> None:
    assert mapped(external("/bin/map"), {**ALICE, "status": "unused"}) is None


BAD = [
    (3, "$ "),
    ([3], "$[0] "),
    ({}, "$.DATA_TYPE "),
    ([{"DATA_TYPE": "expression_identity_mapping#2.0.0", "mappings": []}], "$[0].DATA_TYPE "),
    ({"DATA_TYPE": "expression_identity_mapping#1.0.0"}, "$.mappings "),
    (expression() | {"mapping": []}, "$.mapping "),
    (expression("x"), "$.mappings[0] "),  # type: ignore[arg-type]
    (expression({"source": "a", "match": "b"}), "$.mappings[0].output "),
    (expression(rule("a", "b", mach="c")), "$.mappings[0].mach "),
    (expression(rule("a", "b", literal="yes")), "$.mappings[0].literal "),
    (expression(rule("a", 3)), "$.mappings[0].output "),  # type: ignore[arg-type]
    (expression(rule("ok", "b"), rule("*", "b")), "$.mappings[1].match:"),
    (expression(rule("(a)", "{1}")), "$.mappings[0].output:"),
    (expression(rule("(a)", "{0}", literal=True)), "$.mappings[0].output:"),
    (expression(rule("(a)", "x", source="{0}")), "$.mappings[0].source:"),
    (expression(rule("a", "{")), "$.mappings[0].output "),
    (expression(rule("a", "{a b}")), "$.mappings[0].output "),
    (external(), "$.command[0] "),
    (external("map"), "$.command[0] "),
    (external("/bin/map", ["x"]), "$.command[1] "),
    (external("/bin/map", True), "$.command[1] "),
    (external("/bin/map") | {"shell": True}, "$.shell "),
]


@pytest.mark.parametrize(("document", "path"), BAD, ids=[path for _, path in BAD])
def test_mistakes_are_named_by_their_json_path(document: object, path: str) -> None:
    with pytest.raises(MappingError) as caught:
        compile_document(document)
    assert str(caught.value).startswith(path)


def test_comments_are_welcome() -> None:
    document = expression(rule("a", "b", comment="x", DATA_TYPE="y")) | {"comment": ["z"]}
    assert len(compile_document(document)) == 1


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, "nul"])
def test_what_is_no_json_is_said(text: str) -> None:
    with pytest.raises(MappingError, match=r"\$ is not JSON"):
        compile_text(text)


@given(st.text())
def test_a_text_is_a_mapping_or_an_error(text: str) -> None:
    try:
        compile_text(text)
    except MappingError as error:
        assert str(error).startswith("$")


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        ("(.*)@example.edu", '"(.*)@example\\\\.edu"'),
        ("(.*)@cs\\.example.edu", '"(.*)@cs\\\\.example\\\\.edu"'),
        ("(.*)@example\\.edu", None),
        ("(.*)", None),
        (".*@x|.?a.", None),
    ],
)
def test_a_dot_that_was_hardly_meant_is_remarked_on(match: str, meant: str | None) -> None:
    said = list(remarks(compile_document(expression(rule(match, "x")))))
    assert len(said) == (meant is not None)
    if meant is not None:
        assert said[0].startswith("$.mappings[0].match: ")
        assert said[0].endswith(meant)
    assert not list(remarks(compile_document(expression(rule(match, "x", literal=True)))))
