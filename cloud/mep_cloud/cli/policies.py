"""``mep-relay policy``: whom an endpoint's `authentication_policy` lets submit."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Final
from uuid import UUID

import click

from mep_cloud.cli.common import data_option, in_home, json_option, show
from mep_cloud.ids import new_id
from mep_cloud.store import Store
from mep_cloud.store.records import Policy

_DOMAIN: Final = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*")


@click.group()
def policy() -> None:
    """Authentication policies, which endpoints name in their registration."""


@policy.command("add")
@click.argument("name")
@data_option
@click.option("--allow-domain", multiple=True, help="example.org, or *.example.org for all below.")
@click.option("--exclude-domain", multiple=True, help="Goes before what is allowed.")
@click.option(
    "--provider",
    type=click.UUID,
    help="Id of the identity provider that must know the person: see `mep-relay provider list`.",
)
@click.option(
    "--session-s",
    type=click.FloatRange(min=60),
    help="The person must have signed in (or the client shown its secret) so many seconds ago.",
)
@json_option
def add(
    name: str,
    data: Path,
    allow_domain: tuple[str, ...],
    exclude_domain: tuple[str, ...],
    provider: UUID | None,
    session_s: float | None,
    as_json: bool,
) -> None:
    """Add the policy NAME and print its id, for `authentication_policy` in a site's config.yaml.

    Domains are those of user names: NAME@DOMAIN. All that is given must hold. A policy is never
    changed; add another one, and register the endpoint again.
    """
    allowed, excluded = _checked(allow_domain), _checked(exclude_domain)
    pinned = None if provider is None else str(provider)
    made = Policy(new_id(), name, allowed, excluded, pinned, session_s)
    if (allowed, excluded, provider, session_s) == ((), (), None, None):
        raise click.ClickException("A policy demands something: see `mep-relay policy add --help`.")

    async def put(store: Store) -> None:
        await store.policies.add(made)

    in_home(data, put)
    show({"policy_id": made.id, "name": name}, made.id, as_json)


@policy.command("list")
@data_option
@json_option
def listing(data: Path, as_json: bool) -> None:
    """Show all policies."""

    async def get(store: Store) -> list[Policy]:
        return await store.policies.list()

    found = in_home(data, get)
    lines = [f"{each.id}  {each.name}" for each in found]
    show({"policies": [asdict(each) for each in found]}, "\n".join(lines), as_json)


@policy.command("remove")
@click.argument("policy_id")
@data_option
@json_option
def remove(policy_id: str, data: Path, as_json: bool) -> None:
    """Remove a policy. Endpoints that name it take no tasks until they are registered anew."""

    async def drop(store: Store) -> bool:
        return await store.policies.remove(policy_id)

    if not in_home(data, drop):
        raise click.ClickException(
            f"There is no policy {policy_id}. `mep-relay policy list` shows their ids."
        )
    show({"removed": True}, "removed", as_json)


def _checked(domains: tuple[str, ...]) -> tuple[str, ...]:
    lower = tuple(domain.lower() for domain in domains)
    for domain in lower:
        if not _DOMAIN.fullmatch(domain):
            raise click.ClickException(f"{domain!r} is no domain, nor *.DOMAIN.")
    return lower
