"""``mep tasks``: one's own tasks, and what became of one."""

import json
import time
from typing import Any

import click
import msgspec

from mep.cli.errors import FAILED, CliError
from mep.cli.login import sdk_client
from mep.cli.tables import plain, show
from mep.wire.rest import TASKS_PAGE


@click.command
@click.argument("task", required=False, type=click.UUID)
@click.option("--group", metavar="ID", type=click.UUID, help="Of this task group alone.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, TASKS_PAGE))
@click.option("--cancel", is_flag=True, help="Cancel TASK.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list, or one object.")
def command(
    task: object | None, group: object | None, limit: int, cancel: bool, as_json: bool
) -> int:
    """Show your newest tasks, or all about TASK (an id), with its result when it has ended.

    Exit status 1 when TASK has failed. Uses MEP_RELAY_URL and MEP_TOKEN, else what `mep login`
    stored.

    \b
    Examples:
      mep tasks
      mep tasks --group 5f0c... --limit 1000 --json | jq -r '.[] | select(.status=="failed")'
      mep tasks 0b9e...
      mep tasks 0b9e... --cancel
    """
    if cancel and task is None:
        raise click.UsageError("--cancel cancels one task: give its id")
    with sdk_client() as client:
        if task is None:
            rows = client.get_tasks(str(group) if group else None, limit=limit)
            _list(rows, as_json)
            return 0
        if cancel:
            said = client.cancel(str(task))[str(task)]
            if said == "unknown":
                raise CliError(f"there is no task {task} of yours at this relay; check the id")
            print(said)
            return 0
        record = client.get_task_record(str(task))
        ended = record["status"] in ("success", "failed", "cancelled")
        state = client.get_task(str(task)) if ended else {}
    return _show(record, state, as_json)


def _list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("no tasks")
        return
    show(("id", "function", "state", "submitted"), map(_row, rows))


def _row(task: dict[str, Any]) -> tuple[Any, ...]:
    state = task["failure_code"] or task["status"]
    submitted = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(task["created"]))
    return task["task_id"], plain(task["function_name"]), state, submitted


def _show(record: dict[str, Any], state: dict[str, Any], as_json: bool) -> int:
    error = state.get("exception")
    if as_json:
        if error is not None:
            record["exception"] = f"{type(error).__name__}: {error}"
        elif state:
            record["result"] = as_builtins(state["result"])
        print(json.dumps(record, indent=2))
        return FAILED if error is not None else 0
    print(f"{plain(record['function_name'])}  {record['status']}")
    for name, moment in record["transitions"].items():
        print(f"  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(moment))}  {name}")
    print(f"  endpoint {record['endpoint_id']}, task group {record['task_group_id']}")
    if error is not None:
        print(f"{type(error).__name__}: {error}")
        print(f"its log: mep logs --task {record['task_id']}")
        return FAILED
    if state:
        print(repr(state["result"]))
    return 0


def as_builtins(value: object) -> Any:
    """The value, where JSON can say it; else its repr."""
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except (TypeError, RecursionError):
        return repr(value)
