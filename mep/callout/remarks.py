"""What an administrator hardly meant, although it is valid."""

import json
import re
from collections.abc import Iterator

from mep.callout.mapping import Mapping, Rule


def remarks(mapping: Mapping) -> Iterator[str]:
    """Sentences that begin with the JSON path of a rule."""
    for rule in mapping:
        if isinstance(rule, Rule):
            written = json.loads(rule.text)
            if not written.get("literal") and _bare_dots(written["match"]):
                meant = _escaped(written["match"])
                yield (
                    f"{rule.path}.match: a . matches any character, so that {written['match']!r} "
                    f"lets more names in than it shows; to match a dot alone write {meant}"
                )


def _bare_dots(match: str) -> bool:
    """Whether a dot stands between letters or digits, as in names of hosts."""
    return bool(re.search(r"[A-Za-z0-9-]\.[A-Za-z0-9-]", re.sub(r"\\.", "\0", match)))


def _escaped(match: str) -> str:
    dotted = re.sub(r"(?<=[A-Za-z0-9-])\.(?=[A-Za-z0-9-])", r"\\.", match)
    return json.dumps(dotted)
