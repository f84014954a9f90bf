"""The table ``[cluster]``: this process and the others of its database."""

from typing import Annotated

from msgspec import Meta

from mep_cloud.settings.section import Section


class Cluster(Section, frozen=True):
    """Several relay processes that serve one PostgreSQL database together."""

    enabled: Annotated[
        bool,
        Meta(
            description="This is one of several processes; each has this setting, the same "
            "database and the same master.key. false: the only process, which keeps others out."
        ),
    ] = False
    url: Annotated[
        str,
        Meta(
            description="How the other processes reach this one, as https://HOST:PORT. Empty: the "
            "address that it listens on."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of CAs that the other processes' certificates may be from, "
            "besides the system's."
        ),
    ] = ""
    lease_s: Annotated[
        float,
        Meta(
            ge=2,
            le=300,
            description="Seconds without a sign of life after which the others take a process's "
            "endpoints over. It can write nothing any more then, and ends.",
        ),
    ] = 10.0

    def __post_init__(self) -> None:
        """An address is an address."""
        if self.url and not self.url.startswith(("https://", "http://")):
            raise ValueError("url must be https://HOST:PORT")
