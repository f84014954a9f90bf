"""One person's laptop, for tools/demo.py: reads requests (JSON lines), uses the SDK, answers.

It runs as an account without privilege: results are unpickled here, and they come from others.
"""

import json
import os
import statistics
import sys
import time
from typing import Any

from mep_sdk import Executor


def who_am_i(greeting: str) -> dict[str, Any]:
    """Runs at the site: who is this, and whose are the files that it makes?"""
    import getpass
    import os
    import socket
    import tempfile
    from pathlib import Path

    with tempfile.NamedTemporaryFile(dir=Path.home()) as file:
        owner = os.fstat(file.fileno()).st_uid
    return {
        "says": f"{greeting} from {socket.gethostname()}",
        "user": getpass.getuser(),
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "home": str(Path.home()),
        "file_owner": owner,
    }


def nothing(number: int) -> int:
    return number


def run(executor: Executor, options: dict[str, Any], greeting: str) -> dict[str, Any]:
    """One task, from submit to result: a cold start where no user endpoint has these options."""
    executor.user_endpoint_config = options
    began = time.perf_counter()
    try:
        result = executor.submit(who_am_i, greeting).result(60)
    except Exception as error:  # noqa: BLE001 - the refusal is what is shown
        return {"error": type(error).__name__, "message": str(error), "seconds": _since(began)}
    return {"result": result, "seconds": _since(began)}


def warm(executor: Executor, options: dict[str, Any], count: int) -> dict[str, Any]:
    """One task at a time."""
    executor.user_endpoint_config = options
    executor.submit(nothing, 0).result(60)
    times = []
    for number in range(count):
        began = time.perf_counter()
        assert executor.submit(nothing, number).result(60) == number
        times.append(_since(began) * 1000)
    return {"p50_ms": statistics.median(times)}


def many(executor: Executor, options: dict[str, Any], count: int) -> dict[str, Any]:
    """All tasks at once."""
    executor.user_endpoint_config = options
    executor.submit(nothing, 0).result(60)
    began = time.perf_counter()
    futures = [executor.submit(nothing, number) for number in range(count)]
    results = [future.result(120) for future in futures]
    seconds = _since(began)
    assert results == list(range(count))
    return {"tasks_per_s": count / seconds}


def _since(began: float) -> float:
    return time.perf_counter() - began


ACTIONS = {"run": run, "warm": warm, "many": many}


def main() -> None:
    with Executor(os.environ["MEP_DEMO_ENDPOINT"]) as executor:
        for line in sys.stdin:
            request = json.loads(line)
            answer = ACTIONS[request.pop("do")](executor, **request)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
