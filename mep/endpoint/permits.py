"""Which functions may run: those that every list names, with the body that it names."""

import hashlib
from collections.abc import Iterable

from mep.endpoint.errors import ConfigRefused
from mep.wire.allowed import parse
from mep.wire.tasks import Function


class Permits:
    """The lists of a user endpoint; None is no list.

    Raises:
        ConfigRefused: an entry is none.
    """

    def __init__(self, lists: Iterable[Iterable[str] | None]) -> None:
        self._lists = [_entries(names) for names in lists if names is not None]

    @property
    def restricted(self) -> bool:
        """Whether there is a list."""
        return bool(self._lists)

    def refusal(self, function_id: str, function: Function | None) -> str:
        """Why it may not run; empty if it may.

        Args:
            function_id: of the function.
            function: with its body; None where the same body has been judged before.
        """
        known = function_id.lower()
        for names in self._lists:
            digests = names.get(known)
            if digests is None:
                return f"function {function_id} is not among this endpoint's allowed_functions"
            if function is None or "" in digests:
                continue
            if (digest := hashlib.sha256(function.body).hexdigest()) not in digests:
                return (
                    f"function {function_id} is allowed here with another body alone: this one has "
                    f"the SHA-256 {digest}"
                )
        return ""


def _entries(names: Iterable[str]) -> dict[str, set[str]]:
    """Function id -> SHA-256s of the bodies that may run; empty text is any."""
    found: dict[str, set[str]] = {}
    for text in names:
        try:
            entry = parse(text)
        except ValueError as error:
            raise ConfigRefused(f"allowed_functions: {error}") from error
        found.setdefault(entry.function_id, set()).add(entry.sha256)
    return found
