"""The mapping of one domain: each ``NAME@DOMAIN`` of one identity provider is the account NAME."""

import json
import re
import uuid
from typing import Any, Final

from mep.cli.errors import CliError
from mep.link import Peer

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})+")


def mapping(domain: str, provider: str) -> str:
    """The text of an ``identity_mapping.json``.

    The provider is part of what is compared: whoever could choose a name at another provider
    would else choose one of this domain.

    Raises:
        CliError: `domain` is none, or `provider` is no UUID.
    """
    name = domain.lower().removesuffix(".")
    if not _DOMAIN.fullmatch(name) or len(name) > 253:
        raise CliError(
            f"--domain {domain!r} is no domain as it stands in user names: example.edu (a name "
            "with other letters in its xn-- form)"
        )
    escaped = name.replace(".", "\\.")
    rule = {
        "comment": f"NAME@{name} of this identity provider is the account NAME",
        "source": "{identity_provider} {username}",
        "match": f"{_canonical(provider)} (.*)@{escaped}",
        "output": "{0}",
        "ignore_case": True,
    }
    document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}
    return json.dumps([document], indent=2) + "\n"


def provider_of(peer: Peer) -> str:
    """Id of the provider that the relay `peer` calls the identities of whoever is logged in by.

    Raises:
        CliError: nobody is logged in there, or the relay does not say.
    """
    from mep_sdk import auth, bearer
    from mep_sdk.errors import CredentialsError, RelayUnreachable

    from mep.cli.relay import Relay

    try:
        found = auth.find(relay_url=peer.url)
        token = bearer.of(found).token()
    except (CredentialsError, RelayUnreachable) as error:
        raise CliError(_remedy(f"nobody is logged in at {peer.url} ({error})")) from error
    said = Relay(peer, token).whoami().get("identity_set", [])
    providers = {one["identity_provider"] for one in said if _names_one(one)}
    if len(providers) != 1:
        raise CliError(_remedy(f"you have identities of {len(providers)} providers"))
    return str(providers.pop())


def _names_one(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("identity_provider"), str)


def _remedy(why: str) -> str:
    return (
        f"--domain needs the id of the identity provider whose word on names of it counts, and "
        f"{why}; give --identity-provider ID, as `mep-relay init` printed it and `mep whoami "
        "--json` shows it"
    )


def _canonical(provider: str) -> str:
    try:
        return str(uuid.UUID(provider))
    except ValueError:
        raise CliError(f"--identity-provider {provider!r} is no UUID") from None
