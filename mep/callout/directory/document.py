"""An ``ldap_identity_mapping#1.0.0`` document: its keys, and what they may hold."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from mep.callout.errors import MappingError

DATA_TYPE: Final = "ldap_identity_mapping#1.0.0"
CACHE_DIR: Final = "/var/cache/mep-map"

TOTAL_S: Final = 4.0
"""For all servers in turn; whoever runs us waits a little longer."""
USUAL_S: Final = 2.0
_MOST_SERVERS: Final = 8
_FIELD: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_LOOSE: Final = re.compile(r"[^\x21-\x7e]")
"""Directories compare without regard to spaces and to forms of one letter, so that a name made of
others could find somebody else's entry."""


class Document(NamedTuple):
    """A checked document. Times are in seconds."""

    servers: list[str]
    """``ldap://``, ``ldaps://`` and ``ldapi://`` URLs, asked in this order."""
    start_tls: bool
    ca_file: str | None
    """CA certificates of the servers; None: the system's."""
    bind_dn: str
    """Empty: no credentials."""
    password_file: str | None
    base: str
    filter: list[str]
    """Text and names of identity fields, in turn."""
    account: str
    """The attribute whose one value is the account."""
    identity_providers: list[str]
    """Whose identities are looked up; ``["*"]``: everybody's."""
    timeout_s: float
    """Of one server."""
    cache_dir: str
    cache_s: float
    """How long an account that was found is believed; 0: not at all."""
    negative_cache_s: float
    """The same of not being found."""

    def vouched_for(self, identity: dict[str, str]) -> bool:
        """Whether a pinned provider made this identity."""
        pinned = self.identity_providers
        return "*" in pinned or identity.get("identity_provider", "").lower() in pinned

    def words(self, identity: dict[str, str]) -> list[str]:
        """The values of the filter's fields, in their order.

        Raises:
            ValueError: one is missing, or is nothing to look up; says which.
        """
        words = []
        for name in self.filter[1::2]:
            value = identity.get(name)
            if not value:
                raise ValueError(f"has no {name}")
            if _LOOSE.search(value) or len(value) > 256:
                raise ValueError(f"its {name} is not looked up: it is not plain ASCII")
            words.append(value)
        return words


def parse(path: str, raw: dict[str, Any]) -> Document:
    """The document in parsed JSON; `path` is where in the file it stands.

    Raises:
        MappingError: with the JSON path of the first mistake.
    """
    for key in sorted(set(raw) - set(_KEYS) - {"DATA_TYPE", "comment"}):
        raise MappingError(f"{path}.{key} is unknown; known are {', '.join(_KEYS)}")
    known = {}
    for key, (check, default) in _KEYS.items():
        value = raw.get(key, default)
        if value is _NEEDED or not (value is None is default or check(value)):
            raise MappingError(f"{path}.{key} must be {_MEANINGS[key]}")
        known[key] = value
    _agree(path, known)
    servers, given = known["servers"], known.pop("timeout_s")
    most = TOTAL_S / len(servers)
    if given is not None and given > most:
        raise MappingError(f"{path}.timeout_s is at most {most:g} with {len(servers)} servers")
    known["identity_providers"] = [one.lower() for one in known["identity_providers"]]
    filter_ = _FIELD.split(known.pop("filter"))
    known.pop("allow_plaintext")
    known["bind_dn"] = known["bind_dn"] or ""
    return Document(**known, filter=filter_, timeout_s=given or min(USUAL_S, most))


def identity_of(raw: dict[str, Any]) -> str:
    """The same text for the same document."""
    return json.dumps(raw, sort_keys=True)


def _agree(path: str, known: dict[str, Any]) -> None:
    """What two keys must agree on."""
    if (known["bind_dn"] is None) != (known["password_file"] is None):
        raise MappingError(f"{path} needs both bind_dn and password_file, or neither")
    for n, url in enumerate(known["servers"]):
        where, scheme = f"{path}.servers[{n}]", urlsplit(url).scheme
        if known["start_tls"] and scheme != "ldap":
            raise MappingError(f"{where}: start_tls is for ldap:// servers alone")
        plain = scheme == "ldap" and not (known["start_tls"] or known["allow_plaintext"])
        if plain and not _is_loopback(urlsplit(url).hostname or ""):
            raise MappingError(
                f"{where} is not encrypted, so anyone on the way could say who somebody is: use "
                "ldaps://, start_tls, or allow_plaintext where the network is trusted"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_server(url: object) -> bool:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "ldapi":
        return unquote(parts.netloc).startswith("/") and parts.path in ("", "/")
    plain = not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
    return parts.scheme in ("ldap", "ldaps") and bool(parts.hostname) and port != 0 and plain


def _is_servers(value: object) -> bool:
    return (
        isinstance(value, list) and 0 < len(value) <= _MOST_SERVERS and all(map(_is_server, value))
    )


def _is_filter(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("(") or not value.endswith(")"):
        return False
    parts = _FIELD.split(value)
    return len(parts) > 1 and not any(one in text for text in parts[::2] for one in "{}\0")


def _is_attribute(value: object) -> bool:
    return isinstance(value, str) and bool(_ATTRIBUTE.fullmatch(value))


def _is_providers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(o, str) and o for o in value)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(str(value)) <= TOTAL_S


def _is_age(value: object) -> bool:
    return type(value) in (int, float) and 0 <= float(str(value)) <= 86400


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


_NEEDED: Final = object()
_KEYS: Final[dict[str, tuple[Callable[[object], bool], Any]]] = {
    "servers": (_is_servers, _NEEDED),
    "base": (_is_text, _NEEDED),
    "filter": (_is_filter, _NEEDED),
    "account": (_is_attribute, _NEEDED),
    "identity_providers": (_is_providers, _NEEDED),
    "start_tls": (_is_bool, False),
    "ca_file": (_is_path, None),
    "allow_plaintext": (_is_bool, False),
    "bind_dn": (_is_text, None),
    "password_file": (_is_path, None),
    "timeout_s": (_is_seconds, None),
    "cache_dir": (_is_path, CACHE_DIR),
    "cache_s": (_is_age, 300),
    "negative_cache_s": (_is_age, 30),
}
"""Key -> check, default."""

_MEANINGS: Final = {
    "servers": f"a list of 1 to {_MOST_SERVERS} URLs: ldaps://HOST, ldap://HOST, ldapi://%2Fpath",
    "base": "there, the DN below which people are",
    "filter": "there, an LDAP filter with a {field} of identities: (mail={username})",
    "account": "there, the attribute whose value is the account: uid",
    "identity_providers": 'there, the ids of the providers whose identities count; all: ["*"]',
    "start_tls": "true or false",
    "ca_file": "an absolute path",
    "allow_plaintext": "true or false",
    "bind_dn": "a DN",
    "password_file": "an absolute path",
    "timeout_s": f"seconds, more than 0 and at most {TOTAL_S:g} for all servers together",
    "cache_dir": "an absolute path",
    "cache_s": "seconds, 0 to 86400",
    "negative_cache_s": "seconds, 0 to 86400",
}
