"""``mep register``: make an endpoint known to the relay."""

from uuid import UUID

import click

from mep.cli import tokens
from mep.cli.site import configured_site


@click.command
@click.argument("name")
@tokens.option
@click.option(
    "--endpoint-id",
    metavar="UUID",
    type=click.UUID,
    help="Register with this id; the relay's operator approves it first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, token_file: str | None, endpoint_id: UUID | None, as_json: bool) -> None:
    """Make NAME known to its relay, or renew what the relay knows of it.

    For a multi-user endpoint the token must be an administrator's of the relay; it is used for this
    one request and not kept. Without one, the service client of MEP_CLIENT_ID and MEP_CLIENT_SECRET
    registers, or whoever is logged in. What is kept: grant.key (0600, root), by which the warden
    knows the relay's word, and manager.token, which opens the manager's link and nothing else. Run
    it again after a change of what the relay goes by (display_name, public, visible_to, admins,
    allowed_functions, authentication_policy, high_assurance), or when the link's credential is
    revoked.

    \b
    Examples:
      mep register cluster                         asks for the token
      mep register cluster --token-file admin.token
      ssh relay mep-relay token create admin --data DIR | mep register cluster --token-file -
    """
    place = configured_site(name)
    from mep.cli.registration import register, registrar

    answer = register(place, registrar(place, tokens.given(token_file)), endpoint_id)
    if as_json:
        import json

        print(json.dumps({"endpoint_id": answer.endpoint_id, "name": name}))
    else:
        print(f"registered ID: {answer.endpoint_id}")
