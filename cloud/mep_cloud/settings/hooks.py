"""The table ``[hooks]``: webhooks, and what Globus Flows is told."""

from ipaddress import ip_network
from typing import Annotated

from msgspec import Meta

from mep_cloud.settings.section import DAY_S, Section


class Hooks(Section, frozen=True):
    """What the relay tells others of its own accord: webhooks, and Globus Flows."""

    per_user: Annotated[
        int, Meta(ge=0, le=1000, description="Webhooks of one user. 0: there are no webhooks.")
    ] = 10
    allowed_networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (CIDR) that webhooks may go to although they are not public "
            "addresses. Whoever may register webhooks can then send requests there."
        ),
    ] = ()
    http_to_loopback: Annotated[
        bool,
        Meta(description="Webhooks may be http:// URLs of this machine; for tests and demos."),
    ] = False
    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of CAs that receivers' certificates may be from, besides the "
            "system's."
        ),
    ] = ""
    concurrent: Annotated[
        int, Meta(ge=1, le=100, description="Webhook requests under way at once, of all users.")
    ] = 8
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="Seconds that one webhook request may take.")
    ] = 10.0
    give_up_s: Annotated[
        float,
        Meta(
            ge=60,
            description="Seconds after a task's end at which a receiver that does not take the "
            "news is no longer told of it.",
        ),
    ] = DAY_S
    action_scope: Annotated[
        str, Meta(description="Globus Auth scope that Flows asks a token of, to run functions.")
    ] = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
    action_contact: Annotated[
        str, Meta(description="Whom users of Flows ask for help: shown by the action provider.")
    ] = "the relay's administrator"

    def __post_init__(self) -> None:
        """Networks are networks."""
        for each in self.allowed_networks:
            ip_network(each)
