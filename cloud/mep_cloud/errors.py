"""What can go wrong in the relay.

::

    RelayError
    ├── Refusal        one request is refused; the message is fit for the user
    ├── NotAccepted    what somebody shows of who they are does not hold; fit for that person
    ├── NoAnswer       an identity provider cannot be asked just now
    ├── HomeError      the data directory cannot be used; the message is for the administrator
    └── StoreError     the database cannot take what was asked, or is closed
        ├── StoreFails the database itself is in trouble, and may take the same later
        ├── EndpointTaken an endpoint of that id was registered in the meantime
        ├── GroupTaken the task group became somebody else's in the meantime
        ├── BlobGone   an upload is not there, or not what it is said to be
        ├── QuotaExceeded a user has too many bytes of uploads and large results
        ├── TooManyLogins as many are on their way as may be
        ├── TooManyGroups a person is in as many groups as one may be in
        ├── LastManager a group of people would be left without a manager
        └── IdentityTaken an id or a user name is somebody else's here
"""


class RelayError(Exception):
    """Base of this package's errors."""


class Refusal(RelayError):
    """A request or a link that is refused.

    Args:
        status: HTTP status, 400 to 499; 503 where whoever knows the answer cannot be asked, 507
            where there is no room.
        code: one of :mod:`mep.wire.codes`.
        message: a sentence for the person who asked, with the remedy.
        retry_after_s: seconds after which the same request may be taken.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status
        self.code = code
        self.message = message


class NotAccepted(RelayError):
    """A token, an answer or a password does not prove who somebody is; the message says why."""


class NoAnswer(RelayError):
    """An identity provider does not answer, or not in its own language; later it may."""


class HomeError(RelayError):
    """The data directory is missing, half made, or open to other accounts."""


class StoreError(RelayError):
    """A committed fact contradicts what is to be stored, or the database is closed."""


class EndpointTaken(StoreError):
    """An endpoint of that id was registered a moment ago."""


class StoreFails(StoreError):
    """The database is full, read-only, out of reach or damaged; for whoever runs the relay."""


class GroupTaken(StoreError):
    """A new task group's id is another user's already."""


class BlobGone(StoreError):
    """An upload that a task refers to is not there, or not what the task says of it."""


class QuotaExceeded(StoreError):
    """More bytes than one user may have; `used` are there."""

    def __init__(self, used: int) -> None:
        super().__init__(f"{used} bytes are used")
        self.used = used


class TooManyLogins(StoreError):
    """No further login can begin just now."""


class TooManyGroups(StoreError):
    """Somebody is in as many groups as one may be."""


class LastManager(StoreError):
    """A group of people must keep one manager."""


class IdentityTaken(StoreError):
    """A provider vouches for an id or a user name that is somebody else's; the message says it."""
