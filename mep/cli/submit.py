"""``mep submit``: run a function of a script at an endpoint."""

import importlib.util
import json
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mep.cli.errors import FAILED, INTERRUPTED, CliError
from mep.cli.login import sdk_client
from mep.cli.tasks import as_builtins

if TYPE_CHECKING:
    from mep_sdk import ComputeFuture


@click.command
@click.argument("what", metavar="SCRIPT.py:FUNCTION")
@click.argument("arguments", nargs=-1)
@click.option("--endpoint", metavar="ID", envvar="MEP_ENDPOINT", show_envvar=True, required=True)
@click.option(
    "--config",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the endpoint's template (user_endpoint_config); may be repeated.",
)
@click.option(
    "--resources",
    metavar="NAME=VALUE",
    multiple=True,
    help="What the task needs (resource_specification), as num_nodes=2; may be repeated.",
)
@click.option("--no-wait", is_flag=True, help="Print the task's id, and leave it to itself.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    what: str,
    arguments: tuple[str, ...],
    endpoint: str,
    config: tuple[str, ...],
    resources: tuple[str, ...],
    no_wait: bool,
    as_json: bool,
) -> int:
    """Run FUNCTION of SCRIPT.py at an endpoint, and print what it returns.

    ARGUMENTS are JSON where they can be read as such, else text; NAME=VALUE is a keyword argument
    where the function has one of this name. Values of options likewise. The script itself is
    loaded here, as a module: keep what it runs as a script below `if __name__ == "__main__":`.

    Ctrl-C leaves the task running: see `mep tasks ID`. Exit status 1 when the task has failed.

    \b
    Examples:
      mep submit pi.py:estimate 1000000 --endpoint 4b1d9c2e-...
      mep submit sim.py:run seed=7 --endpoint 4b1d9c2e-... --config WALLTIME=00:30:00 --no-wait
    """
    function = _loaded(what)
    args, kwargs = _arguments(function, arguments)
    from mep_sdk import Executor

    with sdk_client() as client:
        try:
            executor = Executor(
                endpoint,
                client,
                user_endpoint_config=_pairs(config, "--config") or None,
                resource_specification=_pairs(resources, "--resources") or None,
            )
        except ValueError as error:
            raise CliError(str(error)) from error
        future = executor.submit(function, *args, **kwargs)
        try:
            executor.flush()
            if no_wait and future.task_id is not None:
                print(json.dumps({"task_id": future.task_id}) if as_json else future.task_id)
                return 0
            failure = future.exception()
        except KeyboardInterrupt:
            return _left(future)
        except CancelledError as error:
            raise CliError(f"task {future.task_id} was cancelled") from error
        finally:
            executor.shutdown(wait=False)
    return _show(future, failure, as_json)


def _loaded(what: str) -> Callable[..., Any]:
    """The function that ``SCRIPT.py:FUNCTION`` names."""
    script, colon, name = what.rpartition(":")
    path = Path(script).resolve()
    if not (colon and name.isidentifier()):
        raise click.UsageError(f"{what!r} is not SCRIPT.py:FUNCTION")
    if not path.is_file():
        raise CliError(f"there is no script {script}")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CliError(f"{script} is no Python script: its name does not end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CliError(f"{script} cannot be loaded: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [each for each, value in vars(module).items() if callable(value)]
        from mep.wire.settings import nearest

        raise CliError(f"{script} has no function {name}{nearest(name, names)}")
    return function  # type: ignore[no-any-return]


def _arguments(
    function: Callable[..., Any], given: tuple[str, ...]
) -> tuple[list[Any], dict[str, Any]]:
    import inspect

    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    any_name = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    args, kwargs = [], {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier() and (any_name or name in parameters):
            kwargs[name] = _value(value)
        else:
            args.append(_value(text))
    return args, kwargs


def _pairs(given: tuple[str, ...], option: str) -> dict[str, Any]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise click.UsageError(f"{option} takes NAME=VALUE, not {text!r}")
        pairs[name] = _value(value)
    return pairs


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _left(future: "ComputeFuture") -> int:
    if future.task_id is None:
        future.cancel()
        print("interrupted before the relay had the task: it does not run", file=sys.stderr)
    else:
        print(
            f"the task goes on: mep tasks {future.task_id}  (add --cancel to end it)",
            file=sys.stderr,
        )
    return INTERRUPTED


def _show(future: "ComputeFuture", error: BaseException | None, as_json: bool) -> int:
    if as_json:
        told: dict[str, Any] = {"task_id": future.task_id, "status": future.task_state}
        if error is None:
            told["result"] = as_builtins(future.result())
        else:
            told["exception"] = f"{type(error).__name__}: {error}"
        print(json.dumps(told, indent=2))
    elif error is None:
        value = future.result()
        if value is not None:
            print(value if isinstance(value, str) else repr(value))
    else:
        from mep_sdk.errors import RemoteTraceback

        if isinstance(error.__cause__, RemoteTraceback):
            print(error.__cause__.text.rstrip(), file=sys.stderr)
        else:
            print(f"mep: {error}", file=sys.stderr)
        if future.task_id is not None:
            print(f"its log: mep logs --task {future.task_id}", file=sys.stderr)
    return FAILED if error is not None else 0
