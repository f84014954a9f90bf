"""Every exception that the SDK raises itself; a function's own exceptions are re-raised as such.

::

    MEPError                       code, message
    ├── CredentialsError           the login cannot be used: unsafe, over, or half of it missing
    │   └── NotLoggedIn            nobody is, or not at this relay
    ├── SerializationError         a function, argument or result cannot be carried over
    ├── TaskPending                the result was asked for before the task ended
    ├── RelayError                 status; the relay refused a request, or could not be asked
    │   ├── AuthenticationError    the token is unknown, revoked or expired
    │   ├── AccessForbidden        the endpoint, function or task is not yours to use
    │   │   └── FunctionNotPermitted   the endpoint's allowed_functions does not name it
    │   ├── NotFound
    │   │   ├── EndpointNotFound
    │   │   ├── FunctionNotFound
    │   │   └── TaskNotFound       also task groups
    │   ├── InvalidRequest
    │   ├── PayloadTooLarge        also raised by the SDK, before anything is sent
    │   ├── NoRoom                 for large arguments
    │   ├── Throttled              the relay said "slower" for longer than one can wait
    │   │   └── QueueFull          the endpoint's queue had no room all that time
    │   └── RelayUnreachable       no connection, or no answer in time
    │       └── SubmissionUncertain    the connection broke while the relay took the tasks
    └── TaskExecutionFailed        traceback; the task ended badly, not by its own exception
        ├── StartRefused           the site did not start a user endpoint for you
        ├── ConfigurationRefused   user_endpoint_config, template, or engine
        ├── ResourcesRefused       resource_specification asks for what this engine cannot give
        ├── WorkerLost             the process that ran the task died
        ├── WalltimeExceeded       the task was ended after the time that the endpoint gives it
        ├── EndpointLost           the user endpoint died
        ├── DeserializationFailed  the worker cannot load the function or its arguments
        │   └── EnvironmentMismatch    because they are of another Python version
        ├── TaskExpired            the task had not ended when its time-to-live was over
        ├── ResultExpired          the task ended too long ago: its result is kept no longer
        └── ResultNotCarried       the result is too large or cannot be serialized

``code`` is one of :mod:`mep.wire.codes`, the same whichever way the failure came; scripts compare
codes, people read messages.
"""

from typing import Any

from mep.wire import codes


class MEPError(Exception):
    """Base of all; `message` is a sentence for the user, `code` one of :mod:`mep.wire.codes`."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.code else self.message


def _again(cls: type[MEPError], args: tuple[Any, ...], state: dict[str, Any]) -> MEPError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class CredentialsError(MEPError):
    """The login cannot be used; the message says why, and what to run."""


class NotLoggedIn(CredentialsError):
    """There is no login for this relay; the message says what to run."""


class SerializationError(MEPError):
    """A function, argument or result cannot be carried over; the message names it."""


class TaskPending(MEPError):
    """The task has not ended; `status` is where it is (``waiting-for-nodes``, ``running``...)."""

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(f"task {task_id} has not ended: {status}")
        self.status = status


class RelayError(MEPError):
    """The relay refused a request; `status` is HTTP's, 0 where there was no answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code)
        self.status = status


class AuthenticationError(RelayError):
    """The relay does not know the token (any more)."""


class AccessForbidden(RelayError):
    """The endpoint, function or task group is somebody else's and not shared with you."""


class FunctionNotPermitted(AccessForbidden):
    """The endpoint runs only the functions that its administrator listed."""


class NotFound(RelayError):
    """The relay has no such thing."""


class EndpointNotFound(NotFound):
    """No endpoint has this id."""


class FunctionNotFound(NotFound):
    """No function has this id."""


class TaskNotFound(NotFound):
    """No task, or no task group, has this id; results are kept for a limited time."""


class InvalidRequest(RelayError):
    """The relay cannot make sense of the request."""


class PayloadTooLarge(RelayError):
    """The serialized arguments exceed what one task may carry."""


class NoRoom(RelayError):
    """What the relay keeps of large arguments and results for one user is used up, or its disk."""


class Throttled(RelayError):
    """The relay still asks for patience after a long time of it."""


class QueueFull(Throttled):
    """The endpoint has as many unfinished tasks as the relay keeps for one."""


class RelayUnreachable(RelayError):
    """The relay does not answer, or cannot be trusted to be the relay."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "", message)


class SubmissionUncertain(RelayUnreachable):
    """The connection broke while tasks were handed over: the relay may or may not have them.

    They were not sent again, since they might have run twice. ``Executor.reload_tasks()`` returns
    what the relay has.
    """


class TaskExecutionFailed(MEPError):
    """The task ended badly, and not by an exception of its own that could be carried over.

    `traceback` is the remote traceback or the end of the worker's stderr, as text.
    """

    def __init__(self, message: str, code: str = "", traceback: str = "") -> None:
        super().__init__(message, code)
        self.traceback = traceback

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n\n{self.traceback}" if self.traceback else text


class StartRefused(TaskExecutionFailed):
    """The site refused to start a user endpoint for you: mapping, account or limits."""


class ConfigurationRefused(TaskExecutionFailed):
    """The user endpoint did not come up with this ``user_endpoint_config``."""


class ResourcesRefused(TaskExecutionFailed):
    """The ``resource_specification`` asks for what the endpoint's engine cannot give."""


class WorkerLost(TaskExecutionFailed):
    """The process that ran the task died; node, exit status and signal are in the message."""


class WalltimeExceeded(TaskExecutionFailed):
    """The task was ended after the time that the endpoint gives each one."""


class EndpointLost(TaskExecutionFailed):
    """The user endpoint died after the task had started."""


class DeserializationFailed(TaskExecutionFailed):
    """The worker cannot load the function or its arguments."""


class EnvironmentMismatch(DeserializationFailed):
    """The worker has another Python version than the call, and cannot load it; both are named."""


class ResultNotCarried(TaskExecutionFailed):
    """The function returned something too large, or something that cannot be serialized."""


class TaskExpired(TaskExecutionFailed):
    """The task had not ended when its time-to-live at the relay was over."""


class ResultExpired(TaskExecutionFailed):
    """The task has ended, but the relay keeps its result no longer."""


class RemoteTraceback(Exception):
    """The ``__cause__`` of a re-raised exception: its traceback on the worker, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


_REFUSALS: dict[str, type[RelayError]] = {
    codes.USER_UNAUTHENTICATED: AuthenticationError,
    codes.ADMIN_REQUIRED: AccessForbidden,
    codes.ENDPOINT_ACCESS_FORBIDDEN: AccessForbidden,
    codes.FUNCTION_ACCESS_FORBIDDEN: AccessForbidden,
    codes.GROUP_ACCESS_FORBIDDEN: AccessForbidden,
    codes.AUTHENTICATION_POLICY_NOT_MET: AccessForbidden,
    codes.GROUP_NOT_FOUND: AccessForbidden,
    codes.FUNCTION_NOT_PERMITTED: FunctionNotPermitted,
    codes.ENDPOINT_NOT_FOUND: EndpointNotFound,
    codes.FUNCTION_NOT_FOUND: FunctionNotFound,
    codes.TASK_NOT_FOUND: TaskNotFound,
    codes.TASK_GROUP_NOT_FOUND: TaskNotFound,
    codes.NOT_FOUND: NotFound,
    codes.INVALID_REQUEST: InvalidRequest,
    codes.INVALID_UUID: InvalidRequest,
    codes.TASK_PAYLOAD_TOO_LARGE: PayloadTooLarge,
    codes.BLOB_QUOTA_EXCEEDED: NoRoom,
    codes.BLOBS_FULL: NoRoom,
    codes.BLOB_NOT_FOUND: NotFound,
    codes.BLOB_DAMAGED: RelayError,
    codes.TOO_MANY_REQUESTS: Throttled,
    codes.QUEUE_FULL: QueueFull,
    codes.IDENTITY_PROVIDER_UNAVAILABLE: Throttled,
    codes.ENDPOINT_LOCKED: Throttled,
    codes.INTERNAL_ERROR: RelayError,
}

_STATUSES: dict[int, tuple[type[RelayError], str]] = {
    400: (InvalidRequest, codes.INVALID_REQUEST),
    401: (AuthenticationError, codes.USER_UNAUTHENTICATED),
    403: (AccessForbidden, ""),
    404: (NotFound, codes.NOT_FOUND),
    413: (PayloadTooLarge, codes.TASK_PAYLOAD_TOO_LARGE),
    422: (InvalidRequest, codes.INVALID_REQUEST),
    429: (Throttled, ""),
}

_FAILURES: dict[str, type[TaskExecutionFailed]] = {
    codes.IDENTITY_NOT_MAPPED: StartRefused,
    codes.ACCOUNT_UNKNOWN: StartRefused,
    codes.ACCOUNT_REFUSED: StartRefused,
    codes.ACCOUNT_SHARED: StartRefused,
    codes.GRANT_REFUSED: StartRefused,
    codes.START_LIMIT: StartRefused,
    codes.START_FAILED: StartRefused,
    codes.OPTIONS_REFUSED: ConfigurationRefused,
    codes.TEMPLATE_FAILED: ConfigurationRefused,
    codes.CONFIG_REFUSED: ConfigurationRefused,
    codes.ENGINE_FAILED: ConfigurationRefused,
    codes.RESOURCES_REFUSED: ResourcesRefused,
    codes.WORKER_LOST: WorkerLost,
    codes.WALLTIME_EXCEEDED: WalltimeExceeded,
    codes.ENDPOINT_LOST: EndpointLost,
    codes.DESERIALIZATION_FAILED: DeserializationFailed,
    codes.ENVIRONMENT_MISMATCH: EnvironmentMismatch,
    codes.SERIALIZATION_FAILED: ResultNotCarried,
    codes.RESULT_TOO_LARGE: ResultNotCarried,
    codes.BLOB_QUOTA_EXCEEDED: ResultNotCarried,
    codes.TASK_EXPIRED: TaskExpired,
    codes.RESULT_EXPIRED: ResultExpired,
}

_LOGIN_HINT = "; run `mep login`, or set MEP_RELAY_URL and MEP_TOKEN"


def refusal(status: int, code: str, message: str) -> RelayError:
    """The exception for a refused request, by its code, else by its HTTP status."""
    kind, usual_code = _STATUSES.get(status, (RelayError, ""))
    kind = _REFUSALS.get(code, kind)
    if kind is AuthenticationError and "mep login" not in message:
        message = message.rstrip(".") + _LOGIN_HINT
    return kind(status, code or usual_code, message)


def failure(code: str, message: str, traceback: str = "") -> TaskExecutionFailed:
    """The exception for a task that ended badly, by its code."""
    return _FAILURES.get(code, TaskExecutionFailed)(message, code, traceback)
