"""The table ``[log]``: form and level of what the relay says."""

from typing import Annotated, Literal

from msgspec import Meta

from mep_cloud.settings.section import Section


class Log(Section, frozen=True):
    """What the relay says of itself on its standard error."""

    format: Annotated[
        Literal["text", "json"],
        Meta(description="text: lines for people. json: one JSON object in each line."),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="What is less important than this is left out."),
    ] = "info"
