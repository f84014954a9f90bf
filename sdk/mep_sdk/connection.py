"""What a client holds of its relay in one process: HTTP, transfers, the result stream.

A forked child must not use its parent's connections: it begins with none.
"""

import os
import threading
import uuid
import weakref
from typing import TYPE_CHECKING, Final

import msgspec

from mep.wire.rest import Submit, Submitted
from mep_sdk.auth import Credentials
from mep_sdk.batch import uuid_text
from mep_sdk.bounds import Bounds
from mep_sdk.containers import Containers
from mep_sdk.errors import RelayError
from mep_sdk.large import Large
from mep_sdk.transport import Transport

if TYPE_CHECKING:
    from mep_sdk.results import ResultStream

CLOSE_S: Final = 2.0
_TOO_MUCH: Final = (413, 422)
"""Statuses of a submit that holds more than the relay takes, among other refusals."""


class Connection:
    """One relay, as one user. Connects when it is first used; safe to use from several threads.

    Args:
        credentials: the relay and the login.
        timeout_s: how long the relay may take to answer one request.
        patience_s: how long a relay that cannot be reached is tried again.
    """

    def __init__(
        self, credentials: Credentials, timeout_s: float, patience_s: float | None
    ) -> None:
        self.credentials = credentials
        self._limits = (timeout_s, patience_s)
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        """Nothing is connected yet."""
        self._lock = threading.Lock()
        self.http = Transport(self.credentials, *self._limits)
        self.large = Large(self.credentials, self.http)
        self.containers = Containers()
        self.bounds = Bounds()
        self._stream: ResultStream | None = None
        self._submits_once = False

    def submit(
        self, endpoint_id: str, request: Submit[bytes], *, patient: bool = False
    ) -> Submitted:
        """See :meth:`mep_sdk.Client.submit`."""
        path = f"/v3/endpoints/{uuid_text(endpoint_id, 'endpoint id')}/submit"
        request = self.large.submit(request, patient=patient)
        request = msgspec.structs.replace(request, request_id=str(uuid.uuid4()))
        once = not self._submits_once
        answer = self.http.call("POST", path, Submitted, request, once=once, patient=patient)
        # See Submit.request_id: the echo is the relay's promise that repeating is harmless.
        self._submits_once = answer.request_id == request.request_id
        return answer

    def learn(self, refused: Exception) -> bool:
        """After a submit that was refused: what this relay takes, if it may have been too much.

        Returns:
            Whether it may. After any other failure the relay may have taken the tasks, and what
            somebody else has learned meanwhile is no reason to send them again.

        Raises:
            RelayError: the relay does not say.
        """
        if not isinstance(refused, RelayError) or refused.status not in _TOO_MUCH:
            return False
        self.bounds.learn(self.large.sizes(anew=True))
        return True

    def result_stream(self) -> "ResultStream":
        """The stream that all executors of the client share."""
        with self._lock:
            if self._stream is None:
                from mep_sdk.results import ResultStream

                self._stream = ResultStream(self.credentials, self.large)
            return self._stream

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(CLOSE_S)
        self.large.close()
        self.http.close()

    def forked(self) -> None:
        """Begin anew in a child process, and leave alone what is the parent's."""
        _inherited.extend((self._stream, self.http))
        self._begin()


_alive: "weakref.WeakSet[Connection]" = weakref.WeakSet()
_inherited: list[object] = []
"""Connections of the parent process: kept, since tidying them up would reach into the parent."""


def _after_fork() -> None:
    for connection in list(_alive):
        connection.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
