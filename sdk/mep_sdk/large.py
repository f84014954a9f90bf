"""Arguments and results too large for a request: uploaded before the submit, downloaded after.

What one relay takes is asked for when the first large arguments are there, or when it has refused
something.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from mep.background import Threads
from mep.wire import codes, limits
from mep.wire.rest import BLOBS_PATH, Submit, TaskStatus, Uploaded, result_path
from mep.wire.tasks import Blob
from mep_sdk import bearer
from mep_sdk.auth import Credentials
from mep_sdk.bounds import Sizes
from mep_sdk.errors import (
    AuthenticationError,
    MEPError,
    NotFound,
    PayloadTooLarge,
    RelayUnreachable,
    refusal,
)
from mep_sdk.outage import Outage
from mep_sdk.transport import Transport

if TYPE_CHECKING:
    from mep.transfer import Transfer

DOWNLOADS: Final = 4
"""At once, of results that a stream brought."""


T = TypeVar("T")


class Large:
    """Transfers with one relay, as one user. Safe to use from several threads."""

    def __init__(self, credentials: Credentials, http: Transport) -> None:
        self._credentials = credentials
        self._bearer = bearer.of(credentials)
        self._sent = ""
        self._http = http
        self._lock = threading.Lock()
        self._sizes: Sizes | None = None
        self._transfers: dict[bool, Transfer] = {}
        """By whether somebody waits for them."""
        self._downloads = Threads("mep-download", DOWNLOADS)

    @property
    def outage(self) -> Outage:
        """Of the relay, for all that asks it."""
        return self._http.outage

    def check(self, size: int, *, patient: bool = False) -> None:
        """Whether the relay takes arguments of so many bytes; asks it once where that is unclear.
        `patient`: nobody waits.

        Raises:
            PayloadTooLarge: it does not.
            RelayError: not reachable.
        """
        if size <= limits.INLINE and self._sizes is None:
            return
        most = self.sizes(patient=patient).payload
        if size > most:
            raise PayloadTooLarge(
                413,
                codes.TASK_PAYLOAD_TOO_LARGE,
                f"the serialized arguments have {size:,} bytes, more than the {most:,} that one "
                "task may carry; pass large data through a file at the site, or out of band",
            )

    def sizes(self, *, anew: bool = False, patient: bool = False) -> Sizes:
        """What the relay takes; asks it once, or `anew`: its operator may have changed that.
        `patient`: nobody waits.

        Raises:
            RelayError: it does not say.
        """
        if anew or self._sizes is None:
            try:
                self._sizes = self._http.call("GET", "/v3/limits", Sizes, patient=patient)
            except NotFound:
                self._sizes = Sizes()
        return self._sizes

    def submit(self, request: Submit[bytes], *, patient: bool = False) -> Submit[bytes]:
        """The request with its large arguments uploaded; `patient`: nobody waits for it.

        Raises:
            PayloadTooLarge: some are too large; nothing was sent.
            RelayError: the relay refuses, or was not reachable.
        """
        calls = [call for group in request.tasks.values() for call in group]
        large = [call for call in calls if isinstance(call, bytes) and len(call) > limits.INLINE]
        if not large:
            return request
        for call in large:
            self.check(len(call))
        return msgspec.structs.replace(request, tasks=self._uploaded(request.tasks, patient))

    def result(self, task_id: str, blob: Blob | Uploaded, *, patient: bool = False) -> bytearray:
        """The packed result of a task; `patient`: nobody waits for it.

        Raises:
            RelayError: the relay refuses, or was not reachable.
        """
        if isinstance(blob, Uploaded):
            blob = Blob(blob.blob_id, blob.size, blob.sha256)
        transfer = self._transfer(patient)
        return self._moved(lambda: transfer.download(result_path(task_id), blob))

    def whole(self, status: TaskStatus[bytes]) -> TaskStatus[bytes]:
        """A task's status with its large result downloaded.

        Raises:
            RelayError: the relay refuses, or was not reachable.
        """
        if status.result_blob is None:
            return status
        data = self.result(status.task_id, status.result_blob)
        name = "result" if status.status == "success" else "exception_payload"
        return msgspec.structs.replace(status, **{name: data})

    def fetch(self, task_id: str, blob: Blob, then: Callable[[bytearray | MEPError], None]) -> None:
        """As :meth:`result`, in the background, and patient."""

        def errand() -> None:
            try:
                outcome: bytearray | MEPError = self.result(task_id, blob, patient=True)
            except MEPError as error:
                outcome = error
            except Exception as error:  # noqa: BLE001 - somebody waits for the outcome
                outcome = MEPError(f"the result cannot be downloaded: {error!r}")
            then(outcome)

        self._downloads.do(errand)

    def close(self) -> None:
        """Try nothing again."""
        with self._lock:
            transfers, self._transfers = self._transfers, {}
        for transfer in transfers.values():
            transfer.close()
        self._downloads.end()

    def _uploaded(
        self, tasks: Mapping[str, Sequence[bytes | Uploaded]], patient: bool
    ) -> dict[str, list[bytes | Uploaded]]:
        return {
            function_id: [self._upload(call, patient) for call in calls]
            for function_id, calls in tasks.items()
        }

    def _upload(self, call: bytes | Uploaded, patient: bool) -> bytes | Uploaded:
        if isinstance(call, Uploaded) or len(call) <= self.sizes().inline:
            return call
        from mep.transfer import blob_of

        transfer = self._transfer(patient)
        return self._moved(lambda: transfer.upload(BLOBS_PATH, call, blob_of(call)))

    def _moved(self, act: Callable[[], T]) -> T:
        """What `act` returns; once more where the token has expired earlier than our clock says."""
        try:
            return _told(act)
        except AuthenticationError:
            if not self._bearer.refused(self._sent):
                raise
        return _told(act)

    def _token(self) -> str:
        try:
            self._sent = self._bearer.token()
        except RelayUnreachable as error:  # as any other loss of the relay: try again
            raise ConnectionError(str(error)) from error
        return self._sent

    def _failing(self) -> None:
        relay = self._credentials.relay_url
        self.outage.goes_on(
            RelayUnreachable(f"large arguments and results do not get to {relay} or from there")
        )

    def _transfer(self, patient: bool) -> "Transfer":
        from mep.link import Peer
        from mep.transfer import Transfer, tries_within

        with self._lock:
            transfer = self._transfers.get(patient)
            if transfer is None:
                peer = Peer(self._credentials.relay_url, self._credentials.ca_file)
                tries = tries_within(self._http.patience_s(patient=patient))
                transfer = Transfer(peer, self._token, tries, self._failing)
                self._transfers[patient] = transfer
            return transfer


def _told(act: Callable[[], T]) -> T:
    """What `act` returns; its failure as one of the SDK's."""
    from mep.transfer import TransferError, TransferStopped

    try:
        return act()
    except TransferError as error:
        raise refusal(error.status, error.code, error.message) from error
    except TransferStopped as error:
        raise RelayUnreachable(str(error)) from error
