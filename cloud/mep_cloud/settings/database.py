"""The table ``[database]``: SQLite or PostgreSQL."""

from typing import Annotated

from msgspec import Meta

from mep_cloud.settings.section import Section


class Database(Section, frozen=True):
    """Where the relay keeps what it must not lose."""

    url: Annotated[
        str,
        Meta(
            description="PostgreSQL: postgresql://USER@HOST/NAME, without a password, which comes "
            "from the file database.password beside or from PGPASSFILE. Empty: SQLite, in the "
            "data directory."
        ),
    ] = ""
