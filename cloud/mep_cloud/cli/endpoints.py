"""``mep-relay endpoint``: the operator's word on who finds an endpoint."""

from pathlib import Path
from uuid import UUID

import click

from mep_cloud.cli.common import data_option, in_home, json_option, show
from mep_cloud.cli.users import find_user
from mep_cloud.store import Store


@click.group()
def endpoint() -> None:
    """Endpoints registered at this relay."""


@endpoint.command("approve")
@click.argument("endpoint_id", type=click.UUID)
@click.argument("username")
@data_option
@json_option
def approve(endpoint_id: UUID, username: str, data: Path, as_json: bool) -> None:
    """Let USERNAME register an endpoint with the id ENDPOINT_ID, which none has had here.

    For an id that people know already, as of a service that moves: the endpoint's administrator
    then runs `mep register NAME --endpoint-id ENDPOINT_ID`, as USERNAME.
    """

    async def work(store: Store) -> str:
        user = await find_user(store, username)
        await store.endpoints.approve(str(endpoint_id), user.id)
        if await store.endpoints.approved_for(str(endpoint_id)) is None:
            raise click.ClickException(f"There is, or was, an endpoint {endpoint_id} already.")
        return user.username

    user = in_home(data, work)
    shown = {"endpoint_id": str(endpoint_id), "username": user}
    show(shown, f"{user} may register {endpoint_id}", as_json)


@endpoint.command("publish")
@click.argument("endpoint_id")
@data_option
@json_option
def publish(endpoint_id: str, data: Path, as_json: bool) -> None:
    """Let everybody find ENDPOINT_ID, a multi-user endpoint registered with `public: true`.

    A registration alone makes nothing public. A serving relay shows it within a minute.
    """
    _put(endpoint_id, data, public=True, as_json=as_json)


@endpoint.command("unpublish")
@click.argument("endpoint_id")
@data_option
@json_option
def unpublish(endpoint_id: str, data: Path, as_json: bool) -> None:
    """Show ENDPOINT_ID only to whom its registration lists again."""
    _put(endpoint_id, data, public=False, as_json=as_json)


def _put(endpoint_id: str, data: Path, *, public: bool, as_json: bool) -> None:
    async def put(store: Store) -> None:
        record = await store.endpoints.get(endpoint_id)
        if record is None:
            raise click.ClickException(f"There is no endpoint {endpoint_id} at this relay.")
        wish = record.registration
        if public and not (wish.public and wish.multi_user):
            raise click.ClickException(
                "It is not registered as a public multi-user endpoint. Its administrator sets "
                "`public: true` and runs `mep register` first."
            )
        await store.endpoints.publish(endpoint_id, public=public)

    in_home(data, put)
    text = "is public" if public else "is not public"
    show({"endpoint_id": endpoint_id, "public": public}, f"{endpoint_id} {text}", as_json)
