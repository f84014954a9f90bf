"""What can go wrong in the relay.

::

    RelayError
    ├── Refusal        one request is refused; the message is fit for the user
    ├── HomeError      the data directory cannot be used; the message is for the administrator
    └── StoreError     the database cannot take what was asked, or is closed
        └── GroupTaken the task group became somebody else's in the meantime
"""


class RelayError(Exception):
    """Base of this package's errors."""


class Refusal(RelayError):
    """A request or a link that is refused.

    Args:
        status: HTTP status, 400 to 499.
        code: one of :mod:`mep.wire.codes`.
        message: a sentence for the person who asked, with the remedy.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class HomeError(RelayError):
    """The data directory is missing, half made, or open to other accounts."""


class StoreError(RelayError):
    """A committed fact contradicts what is to be stored, or the database is closed."""


class GroupTaken(StoreError):
    """A new task group's id is another user's already."""
