"""A :class:`concurrent.futures.Executor` whose workers are at an HPC site."""

import concurrent.futures
import logging
import os
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mep.wire.strategies import strategy_id
from mep_sdk.arguments import json_object, positional_and_named, shown
from mep_sdk.backlog import Call, Destination
from mep_sdk.batch import uuid_text
from mep_sdk.errors import MEPError
from mep_sdk.functions import Functions, Known, known
from mep_sdk.future import ComputeFuture
from mep_sdk.progress import Bar
from mep_sdk.serialize import Serializer
from mep_sdk.submitter import Submitter, finish_at_exit

if TYPE_CHECKING:
    from mep_sdk.client import Client

log = logging.getLogger(__name__)

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
        container_id: of :meth:`mep_sdk.Client.register_container`: run in this image, where the
            endpoint's template allows that.
        progress: whether `map` and `shutdown` show how far they are, on stderr; by default where
            that is a terminal.
        amqp_port, api_burst_limit, api_burst_window_s: of Globus Compute's SDK; without effect.
            Results come over the relay's HTTPS port, and the relay says when to be slower.

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
        container_id: str | uuid.UUID | None = None,
        progress: bool | None = None,
        amqp_port: int | None = None,
        api_burst_limit: int | None = None,
        api_burst_window_s: int | None = None,
    ) -> None:
        _import_now()
        self.label = label
        self.progress = progress
        self._client = client
        self._serializer = serializer
        self._functions = Functions()
        self._submitter: Submitter | None = None
        self._shut_down = False
        self._destination: Destination | None = None
        self._task_group_id: str | None = None
        self.batch_size = batch_size
        self.endpoint_id = endpoint_id
        self.task_group_id = task_group_id
        self.resource_specification = resource_specification
        self.user_endpoint_config = user_endpoint_config
        self.result_serializers = result_serializers
        self.container_id = container_id

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
        return shown(self._config)

    @user_endpoint_config.setter
    def user_endpoint_config(self, value: Mapping[str, Any] | None) -> None:
        self._config = json_object(value, "user_endpoint_config")
        self._destination = None

    @property
    def resource_specification(self) -> Mapping[str, Any] | None:
        """What each task needs, for instance ``{"num_nodes": 2, "ranks_per_node": 4}``; to be
        replaced as a whole.
        """
        return shown(self._specification)

    @resource_specification.setter
    def resource_specification(self, value: Mapping[str, Any] | None) -> None:
        self._specification = json_object(value, "resource_specification")
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
    def batch_size(self) -> int:
        """Most tasks in one request."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"batch_size is a number of tasks, at least 1, not {value!r}")
        self._batch_size = value
        if self._submitter is not None:
            self._submitter.limit(value)

    @property
    def container_id(self) -> str | None:
        """The registered image that tasks run in; None: as the endpoint has it."""
        return self._container_id

    @container_id.setter
    def container_id(self, value: str | uuid.UUID | None) -> None:
        self._container_id = uuid_text(value, "container id") if value is not None else None
        self._destination = None

    @property
    def client(self) -> "Client":
        """The client; the login's is looked up when it is first needed.

        Raises:
            CredentialsError: nobody is logged in.
        """
        if self._client is None:
            from mep_sdk.shared import shared_client

            self._client = shared_client()
        return self._client

    @property
    def serializer(self) -> Serializer:
        """How functions and arguments are written."""
        return self._serializer or (self._client.serializer if self._client else _DEFAULT)

    @serializer.setter
    def serializer(self, value: Serializer | None) -> None:
        self._serializer = value
        self._functions.forget_bodies()

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

        Raises:
            as there; also ValueError where `function_id` is no UUID, CredentialsError where nobody
            is logged in.
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
        positional, named = positional_and_named(arguments, args, kwargs)
        function = Known(function_id=uuid_text(function_id, "function id"))
        return self._enqueue(ComputeFuture(), function, positional, named)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """As :meth:`concurrent.futures.Executor.map`; everything is submitted at once.

        An iterator that is given up cancels what has not ended; Ctrl-C while it waits does not.

        Raises:
            as `submit`; the iterator: TimeoutError, and whatever a task ended with.
        """
        end = None if timeout is None else time.monotonic() + timeout
        futures = [self.submit(fn, *args) for args in zip(*iterables, strict=False)]
        return self._results(futures, end)

    def _results(self, futures: list[ComputeFuture], end: float | None) -> Iterator[Any]:
        try:
            with Bar(futures, self.progress):
                futures.reverse()
                while futures:  # not a loop over them: nobody needs a result twice
                    futures[-1].exception(None if end is None else end - time.monotonic())
                    yield futures.pop().result()
        except KeyboardInterrupt:
            futures.clear()
            raise
        finally:
            for future in futures:
                future.cancel()

    def reload_tasks(self, task_group_id: str | uuid.UUID | None = None) -> list[ComputeFuture]:
        """Futures for all tasks of the task group, in the order of submission, ended or not.

        Args:
            task_group_id: becomes the executor's; by default it is the executor's already.

        Raises:
            ValueError: `task_group_id` is no UUID.
            CredentialsError: nobody is logged in.
            RelayError: the relay refuses, or does not answer.
            RuntimeError: after `shutdown`.
        """
        self._must_be_open()
        if task_group_id is not None:
            self.task_group_id = task_group_id
        group = self.task_group_id
        return self._running().reload(group)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was submitted has been sent: its futures have task ids then, or an
        exception. From there on the computer may be switched off; see `reload_tasks`.

        Raises:
            TimeoutError: that took longer than `timeout` seconds; it goes on.
        """
        submitter = self._submitter
        if submitter is not None and submitter.pid == os.getpid() and not submitter.flush(timeout):
            raise TimeoutError(f"not everything could be sent within {timeout} s")

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
            with Bar(submitter.unfinished(), self.progress):
                submitter.wait()
            submitter.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Shut down, and wait; not where one was interrupted (Ctrl-C): tasks go on then."""
        interrupted = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        try:
            self.shutdown(wait=not interrupted)
        except KeyboardInterrupt:
            interrupted = True
            raise
        finally:
            if interrupted:
                self._tell_what_goes_on()

    def _tell_what_goes_on(self) -> None:
        if self._submitter and (left := self._submitter.unfinished()):
            log.warning(
                "%d tasks go on at the endpoint; get their results with "
                "Executor(task_group_id=%r).reload_tasks()",
                *(len(left), self.task_group_id),
            )

    def __reduce__(self) -> Any:
        raise TypeError("an Executor belongs to its process: make one where it is used")

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
            weakref.finalize(self, submitter.abandon)
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
            self._container_id or "",
        )
        return self._destination


def _import_now() -> None:
    """What `submit` needs.

    Imports are full of ``exec``, and CPython (``run_eval_code_obj``) notes a Ctrl-C within one for
    good: a script that catches it ends with SIGINT's status all the same. So there are none while
    tasks are submitted.
    """
    from mep_sdk import by_value, results, shell, source  # noqa: F401
