"""Every call of the relay's REST API that a user needs."""

import inspect
import os
import platform
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mep import __version__
from mep.wire import codes, limits
from mep.wire.rest import (
    BatchStatus,
    FunctionMeta,
    RegisterFunction,
    Submit,
    Submitted,
    TaskIds,
)
from mep_sdk import auth
from mep_sdk.batch import Batch, uuid_text
from mep_sdk.errors import PayloadTooLarge, TaskNotFound, TaskPending
from mep_sdk.functions import Known, known
from mep_sdk.outcome import shown
from mep_sdk.runtime import user_runtime
from mep_sdk.serialize import Serializer
from mep_sdk.transport import Transport

if TYPE_CHECKING:
    from mep_sdk.results import ResultStream

STATUS_IDS: Final = 1000
"""Tasks asked for in one request."""
CLOSE_S: Final = 2.0


class Client:
    """One relay, as one user. Connects when it is first used; safe to use from several threads.

    Args:
        relay_url, token, ca_file: see :mod:`mep_sdk.auth` for what stands in for them.
        serializer: how functions and arguments are written.
        timeout_s: how long the relay may take to answer one request.
        patience_s: how long a relay that cannot be reached is tried again, before
            :class:`~mep_sdk.errors.RelayUnreachable`.

    Every method that asks the relay raises :class:`~mep_sdk.errors.RelayError` or one of its
    classes when the relay refuses or does not answer.

    Raises:
        CredentialsError: nobody is logged in; the message says what to run.
    """

    def __init__(
        self,
        relay_url: str | None = None,
        token: str | None = None,
        ca_file: str | None = None,
        *,
        serializer: Serializer | None = None,
        timeout_s: float = 60.0,
        patience_s: float = 60.0,
    ) -> None:
        self._credentials = auth.find(relay_url, token, ca_file)
        self.serializer = serializer or Serializer()
        self._limits = (timeout_s, patience_s)
        self._ended: dict[str, dict[str, Any]] = {}
        self._fresh()
        _alive.add(self)

    def _fresh(self) -> None:
        """Nothing connected yet; also in a forked child, which must not use its parent's."""
        self._lock = threading.Lock()
        self._http = Transport(self._credentials, *self._limits)
        self._stream: ResultStream | None = None
        self._submits_once = False

    @property
    def relay_url(self) -> str:
        """The relay that this client asks."""
        return self._credentials.relay_url

    def __repr__(self) -> str:
        return f"Client({self.relay_url!r})"

    def close(self) -> None:
        """Give connections back. Executors of this client must have been shut down."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(CLOSE_S)
        self._http.close()

    def register_function(
        self,
        function: Callable[..., Any],
        *,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
        ha_endpoint_id: str | None = None,
    ) -> str:
        """Register a function; returns its id.

        Args:
            function: any callable.
            description: shown to who may see the function; its docstring by default.
            public: whether everybody may call it.
            group: the members of this group may call it.
            ha_endpoint_id: it may run at this high-assurance endpoint alone.

        Raises:
            SerializationError: it cannot be sent.
        """
        if not callable(function):
            raise TypeError(f"a function is expected, not a {type(function).__name__}")
        wanted = known(function, self.serializer)
        if description is not None:
            wanted.description = description
        return self.register_known(
            wanted, public=public, group=group, ha_endpoint_id=ha_endpoint_id
        )

    def register_known(self, function: Known, **sharing: Any) -> str:
        """Register a function that has been serialized."""
        text = function.body.decode()
        return self._register(function.name, text, function.description, sharing, serialized=True)

    def register_source_code(
        self,
        source: str,
        function_name: str,
        *,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
        ha_endpoint_id: str | None = None,
    ) -> str:
        """Register a function by the source of its module; returns its id.

        The module's other code runs once in each worker, before the first call.

        Raises:
            SyntaxError: the source is no Python of this version.
            ValueError: the source does not mention `function_name`.
        """
        source = inspect.cleandoc(source) if source[:1].isspace() else source
        names = compile(source, "<source>", "exec", dont_inherit=True).co_names
        if function_name not in names:
            raise ValueError(f"the source does not define {function_name!r}")
        sharing = {"public": public, "group": group, "ha_endpoint_id": ha_endpoint_id}
        return self._register(function_name, source, description, sharing, serialized=False)

    def _register(
        self,
        name: str,
        code: str,
        description: str | None,
        sharing: dict[str, Any],
        *,
        serialized: bool,
    ) -> str:
        if len(code.encode()) > limits.FUNCTION:
            raise PayloadTooLarge(
                413,
                codes.TASK_PAYLOAD_TOO_LARGE,
                f"function {name} has {len(code):,} bytes with all it refers to, more than the "
                f"{limits.FUNCTION:,} that can be registered; pass large data as files",
            )
        body = RegisterFunction(
            function_name=name,
            function_code=code,
            serialized=serialized,
            meta=FunctionMeta(platform.python_version(), __version__),
            description=description,
            **sharing,
        )
        answer = self._http.call("POST", "/v3/functions", dict[str, Any], body)
        return str(answer["function_uuid"])

    def get_registered_function(self, function_id: str) -> dict[str, Any]:
        """What the relay knows of a function."""
        path = f"/v2/functions/{uuid_text(function_id, 'function id')}"
        return self._http.call("GET", path, dict[str, Any])

    def delete_function(self, function_id: str) -> None:
        """Forget a function of one's own; it takes no new tasks."""
        path = f"/v2/functions/{uuid_text(function_id, 'function id')}"
        self._http.call("DELETE", path, dict[str, Any])

    def run(self, *args: Any, endpoint_id: str, function_id: str, **kwargs: Any) -> str:
        """Submit one call of a registered function; returns the task id."""
        function_id = uuid_text(function_id, "function id")
        payload = self.serializer.arguments(args, kwargs)
        request = Submit[bytes](tasks={function_id: [payload]}, user_runtime=user_runtime())
        return self.submit(endpoint_id, request).tasks[function_id][0]

    def create_batch(
        self,
        task_group_id: str | None = None,
        resource_specification: dict[str, Any] | None = None,
        user_endpoint_config: dict[str, Any] | None = None,
        result_serializers: Sequence[str] | None = None,
    ) -> Batch:
        """An empty batch for :meth:`batch_run`."""
        return Batch(
            task_group_id and uuid_text(task_group_id, "task group id"),
            resource_specification,
            user_endpoint_config,
            result_serializers,
            self.serializer,
        )

    def batch_run(self, endpoint_id: str | Batch, batch: Batch | None = None) -> Any:
        """Submit a batch in one request.

        Returns:
            ``{"request_id", "task_group_id", "endpoint_id", "tasks": {function id: [task ids]}}``;
            in the older form ``batch_run(batch)``, the task ids in the order of `add`.
        """
        if isinstance(endpoint_id, Batch):
            return self._run_older(endpoint_id)
        if not isinstance(batch, Batch):
            raise TypeError("batch_run takes an endpoint id and a batch")
        if not batch.calls:
            raise ValueError("the batch is empty")
        answer = self.submit(endpoint_id, batch.request(batch.tasks()))
        return msgspec.to_builtins(answer)

    def _run_older(self, batch: Batch) -> list[str]:
        task_ids: dict[int, str] = {}
        positions: dict[str, dict[str, list[int]]] = {}
        for position, (endpoint_id, function_id, _) in enumerate(batch.calls):
            if endpoint_id is None:
                raise ValueError(
                    "batch_run(batch) needs batch.add(..., endpoint_id=..., function_id=...); "
                    "else call batch_run(endpoint_id, batch)"
                )
            positions.setdefault(endpoint_id, {}).setdefault(function_id, []).append(position)
        for endpoint_id, functions in positions.items():
            tasks = {
                function_id: [batch.calls[position][2] for position in there]
                for function_id, there in functions.items()
            }
            answer = self.submit(endpoint_id, batch.request(tasks))
            for function_id, there in functions.items():
                task_ids.update(zip(there, answer.tasks[function_id], strict=True))
        return [task_ids[position] for position in range(len(batch.calls))]

    def submit(self, endpoint_id: str, request: Submit[bytes]) -> Submitted:
        """Submit tasks whose payloads are made; what the methods above come down to.

        Raises:
            SubmissionUncertain: the connection broke, and it is unknown whether the relay has them.
        """
        path = f"/v3/endpoints/{uuid_text(endpoint_id, 'endpoint id')}/submit"
        request = msgspec.structs.replace(request, request_id=str(uuid.uuid4()))
        answer = self._http.call("POST", path, Submitted, request, once=not self._submits_once)
        # See Submit.request_id: the echo is the relay's promise that repeating is harmless.
        self._submits_once = answer.request_id == request.request_id
        return answer

    def get_task(self, task_id: str) -> dict[str, Any]:
        """Where a task is: ``{"pending": True, "status": "waiting-for-nodes"}``; when it has ended,
        ``pending`` is False, ``status`` is ``success``, ``failed`` or ``cancelled``, and
        ``completion_t`` (epoch seconds, text) and ``result`` or ``exception`` are added.

        What has ended is asked for once; then it is answered without the network.

        Raises:
            TaskNotFound: there is no such task of yours.
        """
        return self._statuses([task_id])[str(task_id)]

    def get_result(self, task_id: str) -> Any:
        """The result of a task.

        Raises:
            TaskPending: it has not ended.
            TaskNotFound: there is no such task of yours.
            Exception: what the function raised, or how else it failed.
        """
        status = self.get_task(task_id)
        if status["pending"]:
            raise TaskPending(str(task_id), status["status"])
        if "exception" in status:
            raise status["exception"]
        return status["result"]

    def get_batch_result(self, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """As :meth:`get_task` for many tasks, by task id, in few requests."""
        return self._statuses([str(task_id) for task_id in task_ids])

    def cancel(self, *task_ids: str) -> dict[str, str]:
        """Cancel tasks: for each id ``cancelling``, ``ended`` or ``unknown``."""
        answers: dict[str, str] = {}
        for some in _chunks([uuid_text(each, "task id") for each in task_ids]):
            answer = self._http.call("POST", "/v3/tasks/cancel", dict[str, Any], TaskIds(some))
            answers.update(answer["tasks"])
        return answers

    def get_task_group(self, task_group_id: str) -> list[str]:
        """Ids of the tasks of a group, in the order of submission; empty where nothing was ever
        submitted to it.
        """
        path = f"/v2/taskgroup/{uuid_text(task_group_id, 'task group id')}"
        try:
            answer = self._http.call("GET", path, dict[str, Any])
        except TaskNotFound:
            return []
        return [task["id"] for task in answer["tasks"]]

    def _statuses(self, task_ids: list[str]) -> dict[str, dict[str, Any]]:
        names = {str(task_id): uuid_text(task_id, "task id") for task_id in task_ids}
        unknown = [each for each in names.values() if each not in self._ended]
        found = dict(self._ended)
        for some in _chunks(unknown):
            answer = self._http.call("POST", "/v2/batch_status", BatchStatus[bytes], TaskIds(some))
            for task_id, status in answer.results.items():
                found[task_id] = shown(status)
                if not found[task_id]["pending"]:
                    self._ended[task_id] = found[task_id]
        return {name: found[task_id] for name, task_id in names.items()}

    def get_endpoints(self, role: str | None = None) -> list[dict[str, Any]]:
        """Endpoints that one owns, or with ``role="any"`` all that one may see."""
        params = {"role": role} if role else None
        return self._http.call("GET", "/v2/endpoints", list[dict[str, Any]], params=params)

    def get_endpoint_status(self, endpoint_id: str) -> dict[str, Any]:
        """``{"status": "online" | "offline", "details": {...}}``."""
        path = f"/v2/endpoints/{uuid_text(endpoint_id, 'endpoint id')}/status"
        return self._http.call("GET", path, dict[str, Any])

    def get_endpoint_metadata(self, endpoint_id: str) -> dict[str, Any]:
        """What an endpoint says of itself: names, version, template and schema for its users."""
        path = f"/v2/endpoints/{uuid_text(endpoint_id, 'endpoint id')}"
        return self._http.call("GET", path, dict[str, Any])

    def get_allowed_functions(self, endpoint_id: str) -> dict[str, Any]:
        """``{"endpoint_id", "restricted", "functions"}``."""
        path = f"/v3/endpoints/{uuid_text(endpoint_id, 'endpoint id')}/allowed_functions"
        return self._http.call("GET", path, dict[str, Any])

    def whoami(self) -> dict[str, Any]:
        """Who the relay takes one for."""
        return self._http.call("GET", "/v3/whoami", dict[str, Any])

    def result_stream(self) -> "ResultStream":
        """The stream that all executors of this client share."""
        with self._lock:
            if self._stream is None:
                from mep_sdk.results import ResultStream

                self._stream = ResultStream(self._credentials)
            return self._stream


_alive: "weakref.WeakSet[Client]" = weakref.WeakSet()
_shared: "weakref.WeakValueDictionary[auth.Credentials, Client]" = weakref.WeakValueDictionary()


def shared_client() -> Client:
    """The client of all executors that were given none, one for each login.

    Raises:
        CredentialsError: nobody is logged in.
    """
    credentials = auth.find()
    client = _shared.get(credentials)
    if client is None:
        client = Client(credentials.relay_url, credentials.token, credentials.ca_file)
        client = _shared.setdefault(credentials, client)
    return client


def _chunks(task_ids: list[str]) -> Iterable[list[str]]:
    return (task_ids[at : at + STATUS_IDS] for at in range(0, len(task_ids), STATUS_IDS))


_inherited: list[object] = []
"""Connections of the parent process: kept, since tidying them up would reach into the parent."""


def _after_fork() -> None:
    for client in list(_alive):
        _inherited.extend((client._stream, client._http))
        client._fresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
