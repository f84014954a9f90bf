"""Every call of the relay's REST API that a user needs."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mep.wire import codes
from mep.wire.rest import (
    Container,
    FoundFunctions,
    ListedTasks,
    RegisterContainer,
    RegisterFunction,
    Submit,
    Submitted,
    TaskRecord,
)
from mep_sdk import batch_run, login, registration
from mep_sdk.arguments import json_object
from mep_sdk.batch import Batch, uuid_text
from mep_sdk.connection import Connection
from mep_sdk.errors import NotFound, TaskNotFound, TaskPending
from mep_sdk.functions import Known, known
from mep_sdk.login import LoginManager
from mep_sdk.runtime import user_runtime
from mep_sdk.serialize import Serializer
from mep_sdk.tasks import Tasks
from mep_sdk.transport import Transport

if TYPE_CHECKING:
    from mep_sdk.results import ResultStream


class Client:
    """One relay, as one user. Connects when it is first used; safe to use from several threads.

    Args:
        relay_url, token, ca_file: see :mod:`mep_sdk.auth` for what stands in for them.
        serializer: how functions and arguments are written.
        force_login: log in anew, whoever is logged in.
        authorizer: gives the token: one, a function that returns it, or an object of globus_sdk.
        login_manager: looks after the login: :class:`mep_sdk.login.LoginManager`.
        timeout_s: how long the relay may take to answer one request.
        patience_s: how long a relay that cannot be reached is tried again, before
            :class:`~mep_sdk.errors.RelayUnreachable`; by default a minute, and for what executors
            send in the background a quarter of an hour.

    Every method that asks the relay raises :class:`~mep_sdk.errors.RelayError` or one of its
    classes when the relay refuses or does not answer.

    Where nobody is logged in, a login in the browser is begun on a terminal.

    Raises:
        NotLoggedIn: nobody is logged in, and there is no terminal; the message says what to run.
        CredentialsError: the login cannot be used.
        TypeError: authorizer or login manager is none, or both were given.
    """

    def __init__(
        self,
        relay_url: str | None = None,
        token: str | None = None,
        ca_file: str | None = None,
        *,
        serializer: Serializer | None = None,
        force_login: bool = False,
        authorizer: object | None = None,
        login_manager: LoginManager | None = None,
        timeout_s: float = 60.0,
        patience_s: float | None = None,
    ) -> None:
        credentials = login.chosen(
            relay_url,
            token,
            ca_file,
            force=force_login,
            authorizer=authorizer,
            login_manager=login_manager,
        )
        self.login_manager = login_manager
        self.serializer = serializer or Serializer()
        self.connection = Connection(credentials, timeout_s, patience_s)
        self._tasks = Tasks(self.connection)

    @property
    def relay_url(self) -> str:
        """The relay that this client asks."""
        return self.connection.credentials.relay_url

    @property
    def _http(self) -> Transport:
        return self.connection.http

    def __repr__(self) -> str:
        return f"Client({self.relay_url!r})"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Client belongs to its process, and has a token: make one where it is used"
        )

    def logout(self) -> bool:
        """Log out: forget the stored login and end it at the relay; False where there was none.

        A login manager does so its own way; a token or an authorizer stays what it is.

        Raises:
            RelayUnreachable: it is forgotten here, and may be good at the relay still.
        """
        if self.login_manager is not None:
            return bool(self.login_manager.logout())
        return login.leave()

    def close(self) -> None:
        """Give connections back. Executors of this client must have been shut down."""
        self.connection.close()

    def register_function(
        self,
        function: Callable[..., Any],
        *,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
        ha_endpoint_id: str | None = None,
        container: str | None = None,
        labels: dict[str, Any] | None = None,
    ) -> str:
        """Register a function; returns its id.

        Args:
            function: any callable.
            description: shown to who may see the function; its docstring by default.
            public: whether everybody may call it.
            group: the members of this group may call it.
            ha_endpoint_id: it may run at this high-assurance endpoint alone.
            container: reference of the image that it is meant for, for those who read it.
            labels: anything of yours that JSON can say; kept with the function.

        Raises:
            TypeError: it is none, or JSON cannot say the labels.
            SerializationError, PayloadTooLarge: it cannot be sent.
            AccessForbidden: `group` is not yours, or there is none.
        """
        if not callable(function):
            raise TypeError(f"a function is expected, not a {type(function).__name__}")
        wanted = known(function, self.serializer)
        if description is not None:
            wanted.description = description
        return self.register_known(
            wanted,
            public=public,
            group=group,
            ha_endpoint_id=ha_endpoint_id,
            container=container,
            labels=labels,
        )

    def register_known(self, function: Known, *, patient: bool = False, **sharing: Any) -> str:
        """Register a function that has been serialized; `patient`: nobody waits for it."""
        return self._register(registration.of_known(function, sharing), patient=patient)

    def register_source_code(
        self,
        source: str,
        function_name: str,
        *,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
        ha_endpoint_id: str | None = None,
        container: str | None = None,
        labels: dict[str, Any] | None = None,
    ) -> str:
        """Register a function by the source of its module; returns its id.

        The module's other code runs once in each worker, before the first call.

        Raises:
            SyntaxError: the source is no Python of this version.
            ValueError: the source does not mention `function_name`.
        """
        sharing = {
            "public": public,
            "group": group,
            "ha_endpoint_id": ha_endpoint_id,
            "container": container,
            "labels": labels,
        }
        wanted = registration.of_source(source, function_name, description, sharing)
        return self._register(wanted)

    def _register(self, body: RegisterFunction, *, patient: bool = False) -> str:
        answer = self._http.call("POST", "/v3/functions", dict[str, Any], body, patient=patient)
        return str(answer["function_uuid"])

    def get_registered_function(self, function_id: str) -> dict[str, Any]:
        """What the relay knows of a function.

        Raises:
            ValueError: `function_id` is no UUID.
            FunctionNotFound, AccessForbidden: there is none, or it is not shared with you.
        """
        path = f"/v2/functions/{uuid_text(function_id, 'function id')}"
        return self._http.call("GET", path, dict[str, Any])

    def search_functions(
        self, query: str = "", *, offset: int = 0, limit: int = 20
    ) -> list[dict[str, Any]]:
        """Functions with these words in name or description: own, of one's groups, public ones.

        Newest first, at most 100 at once; each a dictionary with ``function_uuid``,
        ``function_name``, ``description``, ``owner``, ``public``, ``group``, ``metadata`` and
        ``created`` (epoch seconds).
        """
        params = {"q": query, "offset": str(offset), "limit": str(limit)}
        found = self._http.call("GET", "/v3/functions", FoundFunctions, params=params)
        return [msgspec.to_builtins(each) for each in found.functions]

    def delete_function(self, function_id: str) -> None:
        """Forget a function of one's own; it takes no new tasks.

        Raises:
            ValueError: `function_id` is no UUID.
            FunctionNotFound, AccessForbidden: there is none, or it is somebody else's.
        """
        path = f"/v2/functions/{uuid_text(function_id, 'function id')}"
        self._http.call("DELETE", path, dict[str, Any])

    def register_container(
        self, location: str, container_type: str, name: str = "", description: str = ""
    ) -> str:
        """Give an image an id, for ``Executor(container_id=...)``; returns it.

        Args:
            location: the image, as the runtime at the endpoint takes it.
            container_type: that runtime: ``podman``, ``apptainer``...
            name: for people.
            description: for people.
        """
        body = RegisterContainer(container_type, location, name, description)
        return self._http.call("POST", "/v3/containers", Container, body).container_uuid

    def get_container(self, container_id: str, container_type: str | None = None) -> dict[str, Any]:
        """What was registered: ``container_uuid``, ``container_type``, ``location``, ``name``,
        ``description``, ``created``.

        Raises:
            NotFound: there is none of this id, or it is of another type than the one asked for.
        """
        path = f"/v3/containers/{uuid_text(container_id, 'container id')}"
        found = self._http.call("GET", path, Container)
        if container_type not in (None, found.container_type):
            message = f"container {container_id} is for {found.container_type}"
            raise NotFound(404, codes.NOT_FOUND, message)
        return msgspec.structs.asdict(found)

    def run(self, *args: Any, endpoint_id: str, function_id: str, **kwargs: Any) -> str:
        """Submit one call of a registered function; returns the task id.

        Raises:
            ValueError: an id is no UUID.
            SerializationError, PayloadTooLarge: the arguments cannot be sent.
            EndpointNotFound, FunctionNotFound, AccessForbidden, FunctionNotPermitted: refused.
            SubmissionUncertain: the connection broke, and it is unknown whether the relay has it.
        """
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
        """An empty batch for :meth:`batch_run`.

        Raises:
            ValueError: `task_group_id` is no UUID.
            TypeError, ValueError: JSON cannot say what was given; the message names it.
        """
        json_object(resource_specification, "resource_specification")
        json_object(user_endpoint_config, "user_endpoint_config")
        return Batch(
            task_group_id and uuid_text(task_group_id, "task group id"),
            resource_specification,
            user_endpoint_config,
            result_serializers,
            self.serializer,
        )

    def batch_run(self, endpoint_id: str | Batch, batch: Batch | None = None) -> Any:
        """Submit a batch: in one request, or as few as the relay's limits allow.

        Returns:
            ``{"request_id", "task_group_id", "endpoint_id", "tasks": {function id: [task ids]}}``,
            where `request_id` is the first one's;
            in the older form ``batch_run(batch)``, the task ids in the order of `add`.

        Raises:
            TypeError, ValueError: the call makes no sense, or the batch is empty.
            RelayError: as :meth:`run`.
        """
        if isinstance(endpoint_id, Batch):
            return batch_run.run_older(self.connection, endpoint_id)
        if not isinstance(batch, Batch):
            raise TypeError("batch_run takes an endpoint id and a batch")
        return batch_run.run(self.connection, endpoint_id, batch)

    def submit(
        self, endpoint_id: str, request: Submit[bytes], *, patient: bool = False
    ) -> Submitted:
        """Submit tasks whose payloads are made; what the methods above come down to.

        Args:
            endpoint_id: where they run.
            request: the tasks.
            patient: nobody waits for the answer.

        Raises:
            PayloadTooLarge: some arguments exceed what the relay takes; nothing was sent.
            SubmissionUncertain: the connection broke, and it is unknown whether the relay has them.
        """
        return self.connection.submit(endpoint_id, request, patient=patient)

    def get_task(self, task_id: str) -> dict[str, Any]:
        """Where a task is: ``{"pending": True, "status": "waiting-for-nodes"}``; when it has ended,
        ``pending`` is False, ``status`` is ``success``, ``failed`` or ``cancelled``, and
        ``completion_t`` (epoch seconds, text) and ``result`` or ``exception`` are added.

        What has ended is asked for once; then it is answered without the network, as long as it is
        among the last 64 MiB of results.

        Raises:
            ValueError: `task_id` is no UUID.
            TaskNotFound: there is no such task of yours.
        """
        status = self.statuses([task_id])[str(task_id)]
        if isinstance(error := status.get("exception"), TaskNotFound):
            raise error
        return status

    def get_task_record(self, task_id: str) -> dict[str, Any]:
        """All that the relay knows of a task, but for arguments and result: function, endpoint,
        sizes, why it failed, and ``transitions``, epoch seconds of each step that it took.

        Raises:
            ValueError: `task_id` is no UUID.
            TaskNotFound: there is no such task of yours.
            RelayError: it ended so long ago that the relay keeps no more (code RESULT_EXPIRED).
        """
        path = f"/v3/tasks/{uuid_text(task_id, 'task id')}"
        record = self._http.call("GET", path, TaskRecord)
        return msgspec.structs.asdict(record)

    def get_tasks(
        self, task_group_id: str | None = None, *, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The newest tasks of a group, or of the newest groups, at most 1000: dictionaries with
        ``task_id``, ``status``, ``function_uuid``, ``function_name``, ``endpoint_id``,
        ``task_group_id``, ``created`` and ``ended`` (epoch seconds), ``failure_code``.

        Raises:
            ValueError: `task_group_id` is no UUID.
        """
        params = {"limit": str(limit)}
        if task_group_id is not None:
            params["task_group_id"] = uuid_text(task_group_id, "task group id")
        found = self._http.call("GET", "/v3/tasks", ListedTasks, params=params)
        return [msgspec.structs.asdict(each) for each in found.tasks]

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
        """As :meth:`get_task` for many tasks, by task id, in few requests; one that is not yours
        has failed with TaskNotFound.

        Raises:
            ValueError: an id is no UUID.
        """
        return self.statuses([str(task_id) for task_id in task_ids])

    def cancel(self, *task_ids: str) -> dict[str, str]:
        """Cancel tasks: for each id ``cancelling``, ``ended`` or ``unknown``.

        Raises:
            ValueError: an id is no UUID.
        """
        return self._tasks.cancel(task_ids)

    def get_task_group(self, task_group_id: str) -> list[str]:
        """Ids of the tasks of a group, in the order of submission; empty where nothing was ever
        submitted to it.

        Raises:
            ValueError: `task_group_id` is no UUID.
        """
        path = f"/v2/taskgroup/{uuid_text(task_group_id, 'task group id')}"
        try:
            answer = self._http.call("GET", path, dict[str, Any])
        except TaskNotFound:
            return []
        return [task["id"] for task in answer["tasks"]]

    def statuses(self, task_ids: list[str], *, keep: bool = True) -> dict[str, dict[str, Any]]:
        """What the methods above come down to; `keep`: to be told again without the network."""
        return self._tasks.statuses(task_ids, keep=keep)

    def get_endpoints(self, role: str | None = None) -> list[dict[str, Any]]:
        """Endpoints that one owns, or with ``role="any"`` all that one may see."""
        params = {"role": role} if role else None
        return self._http.call("GET", "/v2/endpoints", list[dict[str, Any]], params=params)

    def get_endpoint_status(self, endpoint_id: str) -> dict[str, Any]:
        """``{"status": "online" | "offline", "details": {...}}``.

        Raises:
            EndpointNotFound, AccessForbidden: there is none, or it is not shown to you.
        """
        path = f"/v2/endpoints/{uuid_text(endpoint_id, 'endpoint id')}/status"
        return self._http.call("GET", path, dict[str, Any])

    def get_endpoint_metadata(self, endpoint_id: str) -> dict[str, Any]:
        """What an endpoint says of itself: names, version, template and schema for its users; and
        its ``status``, ``last_heartbeat`` (epoch seconds) and ``manager`` (version, Python, host).

        Raises:
            EndpointNotFound, AccessForbidden: there is none, or it is not shown to you.
        """
        path = f"/v2/endpoints/{uuid_text(endpoint_id, 'endpoint id')}"
        return self._http.call("GET", path, dict[str, Any])

    def get_allowed_functions(self, endpoint_id: str) -> dict[str, Any]:
        """``{"endpoint_id", "restricted", "functions"}``.

        Raises:
            ValueError: `endpoint_id` is no UUID.
            EndpointNotFound, AccessForbidden: there is none, or it is not shown to you.
        """
        path = f"/v3/endpoints/{uuid_text(endpoint_id, 'endpoint id')}/allowed_functions"
        return self._http.call("GET", path, dict[str, Any])

    def whoami(self) -> dict[str, Any]:
        """Who the relay takes one for: ``preferred_username``, ``identity_set`` and more.

        Raises:
            AuthenticationError: the relay does not know the token any more.
        """
        return self._http.call("GET", "/v3/whoami", dict[str, Any])

    def result_stream(self) -> "ResultStream":
        """The stream that all executors of this client share."""
        return self.connection.result_stream()
