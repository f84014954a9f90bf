"""Identity mapping documents: which local account an identity set has.

``expression_identity_mapping#1.0.0`` and ``external_identity_mapping#1.0.0`` documents, one or a
list, as Globus Connect Server and Globus Compute define them, and our own
``ldap_identity_mapping#1.0.0`` (:mod:`mep.callout.directory`). Order: documents, then rules, then
identities of the set; the first output wins. Only identity records with status ``used`` or
``private`` count. An output is inserted once: a value with braces in it stays as it is.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from mep.callout.errors import MappingError
from mep.callout.pattern import Pattern, PatternError

Identity = dict[str, str]

EXPRESSION: Final = "expression_identity_mapping#1.0.0"
EXTERNAL: Final = "external_identity_mapping#1.0.0"
LDAP: Final = "ldap_identity_mapping#1.0.0"
_REMARKS: Final = {"DATA_TYPE", "comment"}
_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z0-9_]+)\}")


class Finding(NamedTuple):
    """What one rule said of one identity."""

    rule: str
    """JSON path."""
    text: str
    """The rule as written, or the command."""
    source: str
    """What was compared; empty for a command, or where a field of it is missing."""
    identity_id: str
    output: str | None
    """The account name, or None."""
    why: str


class Rule(NamedTuple):
    """One mapping of an expression document, compiled."""

    path: str
    text: str
    source: list[str]
    pattern: Pattern
    output: list[str]

    def apply(self, identity: Identity) -> Finding:
        """What the rule says of one identity."""
        source, output = _fill(self.source, identity), None
        groups = None if source is None else self.pattern.match(source)
        if source is None:
            why = "a field of the source is missing"
        elif groups is None:
            why = "does not match"
        else:
            captured = {str(number): group for number, group in enumerate(groups)}
            output = _fill(self.output, {**identity, **captured}) or None
            why = "matches" if output else "matches, but the output is empty or lacks a field"
        return Finding(self.path, self.text, source or "", identity["id"], output, why)


class External(NamedTuple):
    """A program that maps."""

    path: str
    text: str
    """What is run or asked, for people."""
    command: list[str]
    """Argv without the options that are appended; empty: our own program for directories."""
    document: dict[str, Any] | None = None
    """What that one is told."""


class Answer(NamedTuple):
    """What a program said of one identity."""

    identity_id: str
    output: str
    why: str = "the command says so"


Mapping = list[Rule | External]
Run = Callable[[External, list[Identity]], list[Answer]]
"""Asks a program about identities."""


def explain(mapping: Mapping, identities: list[Identity], run: Run) -> Iterator[Finding]:
    """What every rule says, in order, lazily: the first finding with an output decides."""
    counted = [one for one in identities if one["status"] in ("used", "private")]
    for rule in mapping:
        if isinstance(rule, Rule):
            yield from (rule.apply(identity) for identity in counted)
        elif counted:
            for who, output, why in run(rule, counted):
                yield Finding(rule.path, rule.text, "", who, output or None, why)


def compile_text(text: str) -> Mapping:
    """The rules of a mapping file.

    Raises:
        MappingError: not JSON, or with the JSON path of the first mistake.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MappingError(f"$ is not JSON: {error}") from error
    return compile_document(raw)


def compile_document(raw: object) -> Mapping:
    """The rules of a parsed mapping file, in order.

    Raises:
        MappingError: with the JSON path of the first mistake.
    """
    if not isinstance(raw, list):
        return _document("$", raw)
    return [rule for n, document in enumerate(raw) for rule in _document(f"$[{n}]", document)]


def _document(path: str, raw: object) -> Mapping:
    if not isinstance(raw, dict):
        raise MappingError(f"{path} is not an object")
    match raw.get("DATA_TYPE"):
        case "expression_identity_mapping#1.0.0":
            rules = _typed(path, raw, {"mappings": list})["mappings"]
            return [_rule(f"{path}.mappings[{n}]", rule) for n, rule in enumerate(rules)]
        case "external_identity_mapping#1.0.0":
            command = _command(path, _typed(path, raw, {"command": list}))
            return [External(path, " ".join(command), command)]
        case "ldap_identity_mapping#1.0.0":
            from mep.callout.directory import document  # most sites never need it

            document.parse(path, raw)
            return [External(path, f"{LDAP} {raw['filter']}", [], raw)]
    raise MappingError(f"{path}.DATA_TYPE is none of {EXPRESSION}, {EXTERNAL}, {LDAP}")


def _command(path: str, raw: dict[str, Any]) -> list[str]:
    words = raw["command"]
    for n, word in enumerate(words):
        if type(word) not in (str, int, float):
            raise MappingError(f"{path}.command[{n}] is not a string or a number")
    if not words or not str(words[0]).startswith("/"):
        raise MappingError(f"{path}.command[0] must be there, an absolute path")
    return [str(word) for word in words]


def _rule(path: str, raw: object) -> Rule:
    if not isinstance(raw, dict):
        raise MappingError(f"{path} is not an object")
    flags: dict[str, Any] = {"ignore_case": False, "literal": False}
    types = {"source": str, "match": str, "output": str, "ignore_case": bool, "literal": bool}
    rule = _typed(path, flags | raw, types)
    try:
        pattern = Pattern(rule["match"], ignore_case=rule["ignore_case"], literal=rule["literal"])
    except PatternError as error:
        raise MappingError(f"{path}.match: {error}") from error
    source = _template(f"{path}.source", rule["source"], 0)
    output = _template(f"{path}.output", rule["output"], pattern.groups)
    return Rule(path, json.dumps(raw), source, pattern, output)


def _typed(path: str, raw: dict[str, Any], types: dict[str, type]) -> dict[str, Any]:
    """`raw`, if it has exactly these keys, and remarks."""
    for key in sorted(set(raw) - set(types) - _REMARKS):
        raise MappingError(f"{path}.{key} is unknown; known are {', '.join(types)}")
    for key, kind in types.items():
        if not isinstance(raw.get(key), kind):
            names = {str: "a string", bool: "true or false", list: "a list"}
            raise MappingError(f"{path}.{key} must be there, {names[kind]}")
    return raw


def _template(path: str, text: str, groups: int) -> list[str]:
    """Literal text and field names, in turn."""
    parts = _PLACEHOLDER.split(text)
    if any(brace in literal for literal in parts[::2] for brace in "{}"):
        raise MappingError(f"{path} has a brace that belongs to no {{field}}")
    if any(literal.endswith("\\") for literal in parts[:-1:2]):
        raise MappingError(f"{path} has a backslash before a {{field}}, which escapes nothing here")
    for name in parts[1::2]:
        if name.isdecimal() and int(name) >= groups:
            raise MappingError(f"{path}: {{{name}}}: there are {groups} groups, counted from 0")
    return parts


def _fill(parts: list[str], values: dict[str, Any]) -> str | None:
    """The text, or None where a field is missing or its group took no part."""
    if any(values.get(name) is None for name in parts[1::2]):
        return None
    return "".join(values[part] if n % 2 else part for n, part in enumerate(parts))
