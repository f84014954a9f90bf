"""A scientist's script that submits thousands of tasks, while its laptop has a hard time.

python chaos_laptop.py ENDPOINT TASKS FILE: says ``ready`` when the first task has come back, in the
end one line of JSON.
"""

import json
import sys
import time
from collections import Counter
from concurrent.futures import Future, wait

from mep_sdk import Executor

AT_ONCE = 150


def square(n: int, path: str) -> int:
    """Leaves a line for each time that it runs."""
    import os
    import time

    line = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(line, f"{n}\n".encode())
    os.close(line)
    time.sleep(0.005)
    return n * n


def main(endpoint_id: str, tasks: int, path: str) -> None:
    ended: Counter[int] = Counter()
    with Executor(endpoint_id, user_endpoint_config={"workers": 2}) as ex:
        first = ex.submit(square, 0, path)
        assert first.result(60) == 0
        print("ready", flush=True)
        futures: list[Future[int]] = [first]
        for n in range(1, tasks):
            futures.append(ex.submit(square, n, path))
            futures[-1].add_done_callback(lambda _, n=n: ended.update([n]))
            if n % AT_ONCE == 0:
                time.sleep(1.0)  # new tasks all through the faults
        _, pending = wait(futures, 300)
        errors = Counter(repr(f.exception()) for f in futures if f.done() and f.exception())
        right = sum(
            f.done() and not f.exception() and f.result() == n * n for n, f in enumerate(futures)
        )
        report = {
            "right": right,
            "pending": len(pending),
            "errors": errors.most_common(3),
            "ended_twice": sum(count > 1 for count in ended.values()),
            "task_ids": len({f.task_id for f in futures}),
        }
        print(json.dumps(report), flush=True)
        ex.shutdown(cancel_futures=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
