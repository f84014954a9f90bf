"""A :class:`concurrent.futures.Executor` whose workers are at an HPC site."""

import concurrent.futures
import json
import os
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mep.wire.strategies import strategy_id
from mep_sdk.backlog import Call, Destination
from mep_sdk.batch import uuid_text
from mep_sdk.errors import MEPError
from mep_sdk.functions import Functions, Known, known
from mep_sdk.future import ComputeFuture
from mep_sdk.serialize import Serializer
from mep_sdk.submitter import Submitter, finish_at_exit

if TYPE_CHECKING:
    from mep_sdk.client import Client

_DEFAULT = Serializer()
_NO_ENDPOINT = """\
no endpoint_id is set, so there is nowhere to run this. Set one:
    Executor(endpoint_id="...")
    executor.endpoint_id = "..."
"""


class Executor(concurrent.futures.Executor):
    """Runs functions at an endpoint.

    Nothing is connected until it must be: an executor without an endpoint can register functions,
    one without a login can be printed. After `shutdown`, or at the end of the process, what was
    submitted has been sent; what has not come back can be had later with `reload_tasks`.

    Args:
        endpoint_id: where functions run; can be set later.
        client: the relay and the user; the login's by default, shared between executors.
        task_group_id: of an earlier session, to go on with; a new one by default.
        resource_specification: what each task needs, for instance ``{"num_nodes": 2}``.
        user_endpoint_config: options of the endpoint's template.
        label: a name for people.
        batch_size: most tasks in one request.
        serializer: how functions and arguments are written; the client's by default.
        result_serializers: what the worker tries in turn for results, by name or id.

    Every property can be assigned at any time; a task is submitted with what they are then.

    Raises:
        TypeError, ValueError: an argument makes no sense; the message names it.
    """

    def __init__(
        self,
        endpoint_id: str | uuid.UUID | None = None,
        client: "Client | None" = None,
        task_group_id: str | uuid.UUID | None = None,
        resource_specification: Mapping[str, Any] | None = None,
        user_endpoint_config: Mapping[str, Any] | None = None,
        label: str = "",
        batch_size: int = 128,
        *,
        serializer: Serializer | None = None,
        result_serializers: Sequence[str] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
        self.label = label
        self.batch_size = batch_size
        self._client = client
        self._serializer = serializer
        self._functions = Functions()
        self._submitter: Submitter | None = None
        self._shut_down = False
        self._destination: Destination | None = None
        self._task_group_id: str | None = None
        self.endpoint_id = endpoint_id
        self.task_group_id = task_group_id
        self.resource_specification = resource_specification
        self.user_endpoint_config = user_endpoint_config
        self.result_serializers = result_serializers

    @property
    def endpoint_id(self) -> str | None:
        """Where functions run."""
        return self._endpoint_id

    @endpoint_id.setter
    def endpoint_id(self, value: str | uuid.UUID | None) -> None:
        self._endpoint_id = uuid_text(value, "endpoint id") if value is not None else None
        self._destination = None

    @property
    def task_group_id(self) -> str:
        """The group of this executor's tasks; note it to `reload_tasks` in another session."""
        if self._task_group_id is None:
            self._task_group_id = str(uuid.uuid4())
        return self._task_group_id

    @task_group_id.setter
    def task_group_id(self, value: str | uuid.UUID | None) -> None:
        self._task_group_id = uuid_text(value, "task group id") if value is not None else None
        self._destination = None

    @property
    def user_endpoint_config(self) -> Mapping[str, Any] | None:
        """Options of the endpoint's template, to be replaced as a whole; others make another
        endpoint process, while this executor goes on.
        """
        return _shown(self._config)

    @user_endpoint_config.setter
    def user_endpoint_config(self, value: Mapping[str, Any] | None) -> None:
        self._config = _json_object(value, "user_endpoint_config")
        self._destination = None

    @property
    def resource_specification(self) -> Mapping[str, Any] | None:
        """What each task needs, for instance ``{"num_nodes": 2, "ranks_per_node": 4}``; to be
        replaced as a whole.
        """
        return _shown(self._specification)

    @resource_specification.setter
    def resource_specification(self, value: Mapping[str, Any] | None) -> None:
        self._specification = _json_object(value, "resource_specification")
        self._destination = None

    @property
    def result_serializers(self) -> tuple[str, ...]:
        """Buffer ids that the worker tries in turn for results; empty: its default."""
        return self._result_serializers

    @result_serializers.setter
    def result_serializers(self, value: Sequence[str] | None) -> None:
        self._result_serializers = tuple(strategy_id(name) for name in value or ())
        self._destination = None

    @property
    def client(self) -> "Client":
        """The client; the login's is looked up when it is first needed.

        Raises:
            CredentialsError: nobody is logged in.
        """
        if self._client is None:
            from mep_sdk.client import shared_client

            self._client = shared_client()
        return self._client

    @property
    def serializer(self) -> Serializer:
        """How functions and arguments are written."""
        return self._serializer or (self._client.serializer if self._client else _DEFAULT)

    @serializer.setter
    def serializer(self, value: Serializer | None) -> None:
        self._serializer = value

    def __repr__(self) -> str:
        label = f" {self.label!r}" if self.label else ""
        where = self.endpoint_id or "no endpoint"
        group = f", task group {self._task_group_id}" if self._task_group_id else ""
        return f"<Executor{label} at {where}{group}{', shut down' if self._shut_down else ''}>"

    def register_function(
        self, function: Callable[..., Any], function_id: str | None = None, **options: Any
    ) -> str:
        """Register a function now, with the options of :meth:`mep_sdk.Client.register_function`;
        returns its id, which later calls of `submit` with this function use.

        With `function_id`, nothing is asked: it is taken as registered under that id.
        """
        if function_id is None:
            function_id = self.client.register_function(function, **options)
        else:
            function_id = uuid_text(function_id, "function id")
        self._functions.keep(function, Known(function_id=function_id))
        return function_id

    def register_source_code(self, source: str, function_name: str, **options: Any) -> str:
        """See :meth:`mep_sdk.Client.register_source_code`."""
        return self.client.register_source_code(source, function_name, **options)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ComputeFuture:
        """Run ``fn(*args, **kwargs)`` at the endpoint; returns at once.

        Function and arguments are serialized now: what changes later does not reach the task. What
        goes wrong with that, or with sending, is the future's exception.

        Raises:
            TypeError: `fn` is not callable.
            ValueError: no endpoint id is set.
            CredentialsError: nobody is logged in.
            RuntimeError: after `shutdown`.
        """
        if not callable(fn):
            raise TypeError(f"a function is expected, not a {type(fn).__name__}")
        self._must_be_ready()
        future = ComputeFuture()
        try:
            function = self._functions.get(fn) or self._functions.keep(
                fn, known(fn, self.serializer)
            )
        except MEPError as error:
            future.set_exception(error)
            return future
        return self._enqueue(future, function, args, kwargs)

    def submit_to_registered_function(
        self,
        function_id: str | uuid.UUID,
        *arguments: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> ComputeFuture:
        """Run a registered function; returns at once.

        The second positional is the tuple of arguments, as is ``args=``; one that is no tuple is
        the single argument. A third is ``kwargs``.

        Raises:
            as `submit`; also ValueError where `function_id` is no UUID.
        """
        self._must_be_ready()
        positional, named = _arguments(arguments, args, kwargs)
        function = Known(function_id=uuid_text(function_id, "function id"))
        return self._enqueue(ComputeFuture(), function, positional, named)

    def reload_tasks(self, task_group_id: str | uuid.UUID | None = None) -> list[ComputeFuture]:
        """Futures for all tasks of the task group, in the order of submission, ended or not.

        Args:
            task_group_id: becomes the executor's; by default it is the executor's already.
        """
        self._must_be_open()
        if task_group_id is not None:
            self.task_group_id = task_group_id
        group = self.task_group_id
        return self._running().reload(group)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; what was submitted is sent all the same.

        Args:
            wait: return only when every future is done.
            cancel_futures: cancel whatever has not ended, wherever it is.
        """
        self._shut_down = True
        submitter = self._submitter
        if submitter is None or submitter.pid != os.getpid():
            return
        if cancel_futures:
            submitter.cancel_all()
        submitter.stop()
        if wait:
            submitter.wait()
            submitter.join()

    def _enqueue(
        self,
        future: ComputeFuture,
        function: Known,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> ComputeFuture:
        destination = self._destination or self._new_destination()
        future.task_group_id = destination.task_group_id
        try:
            payload = self.serializer.arguments(args, kwargs)
        except MEPError as error:
            future.set_exception(error)
        else:
            self._running().add(Call(future, destination, function, payload))
        return future

    def _must_be_open(self) -> None:
        if self._shut_down:
            raise RuntimeError(f"{self!r} takes no more tasks: it was shut down")

    def _must_be_ready(self) -> None:
        self._must_be_open()
        if self._endpoint_id is None:
            raise ValueError(_NO_ENDPOINT)
        if self._client is None:
            self._client = self.client

    def _running(self) -> Submitter:
        """The submitter of this process; a forked child gets its own."""
        submitter = self._submitter
        if submitter is None or submitter.pid != os.getpid():
            submitter = self._submitter = Submitter(self.client, self.batch_size)
            weakref.finalize(self, submitter.stop)
            finish_at_exit()
        return submitter

    def _new_destination(self) -> Destination:
        assert self._endpoint_id is not None
        self._destination = Destination(
            self._endpoint_id,
            self.task_group_id,
            self._config,
            self._specification,
            self._result_serializers,
        )
        return self._destination


def _arguments(
    given: tuple[Any, ...], args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of `submit_to_registered_function`."""
    doubled = (given and args is not None) or (len(given) > 1 and kwargs is not None)
    if len(given) > 2 or doubled:
        raise TypeError("pass the arguments as one tuple: args=(...), kwargs={...}")
    if args is not None and not isinstance(args, (tuple, list)):
        raise TypeError(f"args= is the tuple of arguments, not a {type(args).__name__}")
    named = dict((given[1] if len(given) > 1 else kwargs) or {})
    if not given:
        return tuple(args or ()), named
    if given[0] is None:
        return (), named
    return given[0] if isinstance(given[0], tuple) else (given[0],), named


def _json_object(value: Mapping[str, Any] | None, name: str) -> str:
    """The value as JSON text, which no later change of it can reach; empty for None.

    Raises:
        TypeError, ValueError: JSON cannot say it.
    """
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a dictionary, not a {type(value).__name__}")
    if not all(isinstance(key, str) for key in value):
        raise TypeError(f"the keys of {name} must be strings")
    try:
        return json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"{name} must consist of what JSON can say: {error}") from error


def _shown(text: str) -> Mapping[str, Any] | None:
    return MappingProxyType(json.loads(text)) if text else None
