"""Servers in turn, and the one entry that a filter finds.

A server that is down, or does not answer in time, gives way to the next. Whatever else it says is
its word: wrong credentials or a refusal end the look-up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import ldap
import ldap.filter

from mep.callout.directory import secret
from mep.callout.directory.document import Document
from mep.callout.errors import ExternalError

_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_ELSEWHERE: Final = (
    ldap.SERVER_DOWN,
    ldap.CONNECT_ERROR,
    ldap.TIMEOUT,
    ldap.TIMELIMIT_EXCEEDED,
    ldap.UNAVAILABLE,
    ldap.BUSY,
)
"""The next server may do better."""


class Search:
    """One look at a directory; connects when it is first needed."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._password = secret.read(document.password_file) if document.password_file else ""
        self._connections = self._connect()
        self._open: Any = None
        self._failures: list[str] = []

    def account(self, words: list[str]) -> str:
        """The account of the one entry that the filter finds with these words; empty: none.

        Raises:
            ExternalError: no server answers, one refuses, or the entry is not the only one.
        """
        text = self._filter(words)
        entries = [entry for dn, entry in self._entries(text) if dn]  # the others are referrals
        if len(entries) > 1:
            raise ExternalError(f"more than one entry matches {text}: nobody can be meant")
        return self._value(text, entries[0]) if entries else ""

    def _filter(self, words: list[str]) -> str:
        parts = list(self._document.filter)
        parts[1::2] = [ldap.filter.escape_filter_chars(word) for word in words]
        return "".join(parts)

    def _value(self, text: str, entry: dict[str, list[bytes]]) -> str:
        name = self._document.account
        values = [
            one for key, found in entry.items() if key.lower() == name.lower() for one in found
        ]
        if len(values) != 1:
            raise ExternalError(f"the entry of {text} has {len(values)} values of {name}, not one")
        value = values[0].decode("utf-8", "replace")
        if not value.isprintable() or not 0 < len(value) <= 256:
            raise ExternalError(
                f"the entry of {text} has a {name} that is no account: {value!a:.99}"
            )
        return value

    def _entries(self, text: str) -> list[tuple[str | None, dict[str, list[bytes]]]]:
        seconds = self._document.timeout_s
        while True:
            try:
                if self._open is None:
                    self._open = next(self._connections, None)
                if self._open is None:
                    raise ExternalError(f"no server answers: {'; '.join(self._failures)}")
                found: list[tuple[str | None, dict[str, list[bytes]]]] = self._open.search_ext_s(
                    self._document.base,
                    ldap.SCOPE_SUBTREE,
                    text,
                    [self._document.account],
                    timeout=seconds,
                    sizelimit=2,
                )
            except _ELSEWHERE as error:
                self._failures.append(_words(error))
                self._open = None
            except ldap.SIZELIMIT_EXCEEDED:
                raise ExternalError(f"many entries match {text}: nobody can be meant") from None
            except ldap.LDAPError as error:
                raise ExternalError(f"the search {text}: {_words(error)}") from error
            else:
                return found

    def _connect(self) -> Iterator[Any]:
        """Connections that are bound, one for each server that is up."""
        for url in self._document.servers:
            try:
                connection = ldap.initialize(url)
                self._settle(connection, url)
                if self._document.start_tls:
                    connection.start_tls_s()
                connection.simple_bind_s(self._document.bind_dn, self._password)
            except _ELSEWHERE as error:
                self._failures.append(f"{url}: {_words(error)}")
            except ldap.LDAPError as error:
                raise ExternalError(f"{url}: {_words(error)}") from error
            else:
                yield connection

    def _settle(self, connection: Any, url: str) -> None:
        seconds = self._document.timeout_s
        connection.protocol_version = ldap.VERSION3
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, seconds)
        connection.set_option(ldap.OPT_TIMEOUT, seconds)
        connection.set_option(ldap.OPT_REFERRALS, 0)
        if url.startswith("ldaps:") or self._document.start_tls:
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, self._authorities())
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)

    def _authorities(self) -> str:
        given = self._document.ca_file
        found = [path for path in ([given] if given else _BUNDLES) if os.access(path, os.R_OK)]
        if not found:
            raise ExternalError(
                f"no CA certificates: {given or ', '.join(_BUNDLES)} cannot be read"
            )
        return found[0]


def _words(error: ldap.LDAPError) -> str:
    """The library's exceptions carry a dictionary."""
    said = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    parts = [said.get("desc"), said.get("info")]
    return ": ".join(str(part).strip() for part in parts if part) or type(error).__name__
