"""YAML as configurations need it, and tokens replaced in the scalars where they stand.

PyYAML's schema (YAML 1.1) with these differences:

- no base 60: ``12:00:00`` is text; no dates either: ``2026-01-01`` is text.
- ``1e3`` is a number, as in YAML 1.2.
- ``yes``, ``no``, ``on``, ``off`` stay booleans, and ``0755`` octal, as in the published templates.
- a key with nothing after its colon is absent; ``null`` and ``~`` are null.
- a key that stands twice is refused; only the core types are known, no other tag.

Replacing a token: a scalar that is one token *is* the value, a string (or a list or mapping).
In a longer scalar its text is put in. A block scalar (``|`` or ``>``) is most often a shell script:
an option on a line of its own is put in as it is; beside other text it is one shell word, as it is
when it needs no quotes, else in double quotes as JSON, which is how Globus Compute spells it.
"""

import json
import re
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from mep.endpoint.template.sealed import RESERVED, Entry, Spelling, Vault

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_SAFE_WORD: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+\Z")


def parse(text: str, vault: Vault) -> Any:
    """The one document in `text` as plain data.

    Raises:
        yaml.YAMLError: not YAML, several documents, a doubled key, an unknown tag or anchor.
        Mangled: a token was cut on the way.
    """
    loader = _Loader(text)
    loader.vault = vault
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(_Base):  # type: ignore[misc]
    vault: Vault

    def construct_scalar(self, node: Node) -> Any:
        if isinstance(node, ScalarNode) and RESERVED.search(node.value):
            return self._resolved(node)
        return super().construct_scalar(node)

    def construct_mapping(self, node: Node, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, MappingNode):
            self._check_keys(node)
            node.value = [pair for pair in node.value if not _is_empty(pair[1])]
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def _resolved(self, node: ScalarNode) -> Any:
        pieces = self.vault.split(node.value)
        match pieces:
            case [Entry(value, Spelling.SCALAR)] if not node.style and node.tag == _TAG + "str":
                tag = self.resolve(ScalarNode, value, (True, False))
                return self.construct_object(ScalarNode(tag, value, node.start_mark, node.end_mark))
            case [Entry(value)]:
                return value
        if node.style in ("|", ">"):
            return _in_block(pieces)
        return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)

    def _check_keys(self, node: MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == _TAG + "merge":
                continue
            key = self.construct_object(key_node)
            if isinstance(key, list | dict):
                raise ConstructorError(None, None, "a key is a list or mapping", node.start_mark)
            if key in seen:
                raise ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == "" and node.tag == _TAG + "null"


def _in_block(pieces: list[str | Entry]) -> str:
    written: list[str] = []
    for at, piece in enumerate(pieces):
        if isinstance(piece, str):
            written.append(piece)
            continue
        before = pieces[at - 1] if at else "\n"
        after = pieces[at + 1] if at + 1 < len(pieces) else "\n"
        written.append(_word(piece, before, after))
    return "".join(written)


def _word(entry: Entry, before: str | Entry, after: str | Entry) -> str:
    text = entry.text
    if entry.spelling is not Spelling.WORD:
        return text
    left = before if isinstance(before, str) else "?"
    right = after if isinstance(after, str) else "?"
    alone = not left.rpartition("\n")[2].strip() and not right.partition("\n")[0].strip()
    quotes = left[-1:] + right[:1]
    if alone or quotes == "''" or _SAFE_WORD.match(text):
        return text
    return json.dumps(text)[1:-1] if quotes == '""' else json.dumps(text)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's implicit types without base 60 and dates, and 1.2's floats."""
    kept: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
        kept[first] = [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.removeprefix(_TAG) in {"null", "bool", "merge"}
        ]
    for first in "-+.0123456789":
        for tag, pattern in (("float", _FLOAT), ("int", _INT)):
            kept.setdefault(first, []).append((_TAG + tag, pattern))
    return kept


_INT: Final = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)\Z")
_FLOAT: Final = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


def _construct_int(loader: Any, node: Node) -> int:
    value = str(loader.construct_scalar(node)).replace("_", "")
    digits = value.lstrip("+-")
    if digits.startswith("0") and digits.isdigit():
        return int(value, 8)
    return int(value, 0)


_Loader.yaml_implicit_resolvers = _resolvers()
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in {"null", "bool", "float", "str", "seq", "map"}
}
_Loader.add_constructor(_TAG + "int", _construct_int)
