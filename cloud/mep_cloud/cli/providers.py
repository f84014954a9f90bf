"""``mep-relay provider``: who vouches for people at this relay."""

from pathlib import Path

import click

from mep_cloud import settings
from mep_cloud.auth import provider_of
from mep_cloud.cli.common import data_option, json_option, show, store_of, with_store
from mep_cloud.home import Home
from mep_cloud.store import Store


@click.group()
def provider() -> None:
    """Identity providers: the relay itself, and those in relay.toml."""


@provider.command("list")
@data_option
@json_option
def listing(data: Path, as_json: bool) -> None:
    """Show id and domains of each, for policies (`--provider`) and sites' mappings.

    What `mep-relay serve` would refuse is refused here too.
    """
    from mep_cloud.identity.providers import Providers

    home = Home(data)
    declared = settings.load(home.settings)

    async def get(store: Store) -> list[dict[str, object]]:
        own = await provider_of(store)
        others = Providers(own, declared, home, store)
        found: list[dict[str, object]] = [
            {"id": own.id, "table": None, "title": "this relay", "domains": [own.domain]}
        ]
        for name, issuer in others.issuers.items():
            domains = list(issuer.declared.domains)
            table = f"oidc.{name}"
            found.append(
                {"id": issuer.id, "table": table, "title": issuer.title, "domains": domains}
            )
        if (globus := others.globus) is not None:
            # Its identities say themselves by which provider they are, each with its domains.
            found.append({"id": globus.id, "table": "globus", "title": globus.title, "domains": []})
        if (pam := others.pam) is not None:
            domains = [pam.declared.domain]
            found.append({"id": pam.id, "table": "pam", "title": pam.title, "domains": domains})
        return found

    found = with_store(store_of(data), get)
    lines = [f"{each['id']}  {each['table'] or '-':16}  {each['title']}" for each in found]
    show({"providers": found}, "\n".join(lines), as_json)
