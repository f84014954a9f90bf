"""The table ``[limits]``: what the relay takes and for how long; presets of these figures."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from mep.wire import limits
from mep_cloud.settings.section import DAY_S, Section

MOST_INLINE: Final = limits.LINK_FRAME - limits.BATCH_BYTES
"""Bytes that fit into one link frame beside what surrounds them."""
PLAUSIBLE_S: Final = 3600.0
"""A node's clock may differ so much from the relay's; retention allows for it."""


class Limits(Section, frozen=True):
    """What the relay takes, and how long it keeps it."""

    preset: Annotated[
        Literal["none", "globus"],
        Meta(
            description="Figures for what this table does not say itself. globus: those of the "
            "hosted Globus Compute service (20 requests in 10 s, 10 MB each way, 14 days)."
        ),
    ] = "none"
    payload: Annotated[
        int,
        Meta(
            ge=1024,
            le=limits.BLOB,
            description="Bytes of the serialized arguments of one task. What exceeds inline of "
            "[blobs] goes to a file there.",
        ),
    ] = limits.PAYLOAD
    result: Annotated[
        int,
        Meta(
            ge=1024,
            le=limits.BLOB,
            description="Bytes of the serialized result of one task. What exceeds inline of "
            "[blobs] goes to a file there.",
        ),
    ] = limits.PAYLOAD
    function: Annotated[
        int, Meta(ge=1024, le=MOST_INLINE, description="Bytes of one serialized function.")
    ] = limits.FUNCTION
    request: Annotated[
        int, Meta(ge=4096, le=1 << 30, description="Bytes of one HTTP request's body.")
    ] = limits.REQUEST
    submit_tasks: Annotated[int, Meta(ge=1, le=100_000, description="Tasks in one submit.")] = (
        limits.SUBMIT_TASKS
    )
    queue_depth: Annotated[
        int,
        Meta(ge=0, description="Unfinished tasks of one endpoint, of all users. 0: no bound."),
    ] = 0
    rate_requests: Annotated[
        int,
        Meta(
            ge=0,
            description="HTTP requests of one user in rate_period_s; more are answered 429 with "
            "Retry-After. 0: no bound. Links and streams are not counted.",
        ),
    ] = 0
    rate_period_s: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds in which rate_requests may be made.")
    ] = 10.0
    result_retention_s: Annotated[
        float,
        Meta(
            ge=60,
            description="Seconds that a result is kept after its task has ended, fetched or not.",
        ),
    ] = 14 * DAY_S
    record_retention_s: Annotated[
        float,
        Meta(
            ge=60,
            description="Seconds after its end that a task is known at all: one whose result was "
            "dropped is told of as RESULT_EXPIRED until then. More than result_retention_s.",
        ),
    ] = 90 * DAY_S
    task_ttl_s: Annotated[
        float,
        Meta(
            ge=60,
            description="Seconds after its submission at which a task that has not ended fails "
            "with TASK_EXPIRED.",
        ),
    ] = 14 * DAY_S

    def __post_init__(self) -> None:
        """A request has room for what may be in it, and no task is forgotten with its result."""
        if self.request < max(min(self.payload, limits.PAYLOAD), self.function):
            raise ValueError("request must not be less than payload or function")
        if self.record_retention_s <= self.result_retention_s + PLAUSIBLE_S:
            raise ValueError(
                "record_retention_s must exceed result_retention_s by more than an hour, or nobody "
                "would be told that a result has expired"
            )


PRESETS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "globus": {
        "payload": 10_000_000,
        "result": 10_000_000,
        "rate_requests": 20,
        "rate_period_s": 10.0,
        "result_retention_s": 14 * DAY_S,
        "task_ttl_s": 14 * DAY_S,
    },
}


def with_preset(own: Any) -> Any:
    """The table as the file has it, with what its preset says besides."""
    preset = own.get("preset") if isinstance(own, dict) else None
    return {**PRESETS[preset], **own} if preset in PRESETS else own
