"""What a document makes of identities: pinned providers, the cache, then the directory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from mep.callout.directory import document
from mep.callout.directory.cache import Cache
from mep.callout.directory.search import Search


def answers(raw: dict[str, Any], identities: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """``{"id", "output", "why"}`` of each identity; `output` is empty where it is not mapped.

    Raises:
        MappingError: the document is wrong.
        ExternalError: the directory does not answer, or not with one account.
    """
    looking = _LookUp(raw)
    for identity in identities:
        account, why = looking.up(identity)
        yield {"id": identity["id"], "output": account, "why": why}


class _LookUp:
    def __init__(self, raw: dict[str, Any]) -> None:
        self._document = document.parse("$", raw)
        self._name = document.identity_of(raw)
        self._cache = Cache(
            self._document.cache_dir, self._document.cache_s, self._document.negative_cache_s
        )
        self._search: Search | None = None

    def up(self, identity: dict[str, str]) -> tuple[str, str]:
        """Account, empty for none, and why."""
        if not self._document.vouched_for(identity):
            return "", "is of none of the pinned identity providers"
        try:
            words = self._document.words(identity)
        except ValueError as error:
            return "", str(error)
        key, now = json.dumps([self._name, words]), time.time()
        account = self._cache.get(key, now)
        how = "the cache"
        if account is None:
            self._search = self._search or Search(self._document)
            account, how = self._search.account(words), "the directory"
            self._cache.put(key, account, now)
        return account, f"{how} has {'an' if account else 'no'} entry for it"
