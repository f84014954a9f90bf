"""The whole service on this machine: ``make demo``.

A relay on loopback, an endpoint, real tasks of two people (as root: two throw-away accounts; as
anyone else: a single-user endpoint), two refusals, and times. Nothing is left behind.
"""

import argparse
import json
import signal
import statistics
import sys
from pathlib import Path
from typing import Any

from demo_house import DOMAIN, ROOT, House, Laptop, house, say, sweep

OUT = Path(__file__).parents[1] / "bench/out/demo.json"
ADMIN = "site-admin"
PEOPLE = ["alice", "bob"] if ROOT else [ADMIN]
OPTIONS = {"LABEL": "warm", "MAX_WORKERS": 2}


def main() -> int:
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    sweep()
    try:
        with house() as built:
            show(built, arguments.repetitions, arguments.tasks)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (RuntimeError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def show(built: House, repetitions: int, tasks: int) -> None:
    """Build, run, print."""
    if ROOT:
        built.make_accounts(PEOPLE)
    built.start_relay()
    for person in dict.fromkeys([ADMIN, *PEOPLE, "carol"]):
        built.add_person(person, admin=person == ADMIN and ROOT)
    built.start_site(ADMIN)
    _tell_house(built)
    _tell_tasks(built)
    _tell_refusals(built)
    with built.laptop(PEOPLE[0]) as laptop:
        figures = measure(laptop, repetitions, tasks)
    _tell_times(figures)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    say("")


def measure(laptop: Laptop, repetitions: int, tasks: int) -> dict[str, Any]:
    """The three figures, each of several repetitions."""
    cold = [_cold(laptop, number) for number in range(repetitions)]
    warm = [laptop.do("warm", options=OPTIONS, count=100)["p50_ms"] for _ in range(repetitions)]
    rate = [
        laptop.do("many", options=OPTIONS, count=tasks)["tasks_per_s"] for _ in range(repetitions)
    ]
    return {
        "cold_start_s": _spread(cold, "s"),
        "warm_p50_ms": _spread(warm, "ms"),
        "tasks_per_s": _spread(rate, "1/s"),
    }


def _cold(laptop: Laptop, number: int) -> float:
    """Options that nobody used before: another user endpoint, which has to be started."""
    answer = laptop.do("run", options={"LABEL": f"cold {number}"}, greeting="hello")
    if "error" in answer:
        raise RuntimeError(f"a cold start failed: {answer['message']}")
    return float(answer["seconds"])


def _spread(values: list[float], unit: str) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "unit": unit,
        "n": len(values),
    }


def _tell_house(built: House) -> None:
    status = built.status()
    say("")
    say(f"relay      {built.url}, SQLite, in {built.record.top}/relay")
    kind = "multi-user" if ROOT else "single-user"
    say(f"endpoint   {built.endpoint_id}, {kind}")
    say(f"           warden {status['warden']['pid']}, manager {status['manager']['pid']}")
    for person, account in built.accounts.items():
        say(f"mapping    {person}@{DOMAIN} -> {account}")
    if not ROOT:
        say(f"mapping    {ADMIN}@{DOMAIN} is the owner; nobody else is served")


def _tell_tasks(built: House) -> None:
    say("")
    for person in PEOPLE:
        with built.laptop(person) as laptop:
            answer = laptop.do("run", options={"LABEL": f"of {person}"}, greeting=f"Hello {person}")
        if "error" in answer:
            raise RuntimeError(f"{person}'s task failed: {answer['error']}: {answer['message']}")
        result = answer["result"]
        say(f"task       of {person}@{DOMAIN}, with user_endpoint_config {{'LABEL': ...}}")
        say(f"           ran as {result['user']} (uid {result['uid']}), home {result['home']}")
        say(f"           a file that it made belongs to uid {result['file_owner']}")
        say(f"           result: {result['says']!r}, after {answer['seconds']:.2f} s")


def _tell_refusals(built: House) -> None:
    for person, options, why in (
        (PEOPLE[0], {"PARTITION": "secret"}, "an option that the schema forbids"),
        ("carol", {}, "a person whom nothing maps" if ROOT else "not the owner"),
    ):
        say("")
        say(f"refused    {person}@{DOMAIN}, options {json.dumps(options)}: {why}")
        with built.laptop(person) as laptop:
            answer = laptop.do("run", options=options, greeting="hello")
        if "error" not in answer:
            raise RuntimeError(f"this should have been refused: {answer}")
        say(f"           {answer['error']} after {answer['seconds']:.2f} s:")
        say(f"           {answer['message']}")


def _tell_times(figures: dict[str, Any]) -> None:
    say("")
    for key, what, digits in (
        ("cold_start_s", "cold: submit to first result", 2),
        ("warm_p50_ms", "warm: one task, round trip, p50", 2),
        ("tasks_per_s", "many: no-op tasks at once", 0),
    ):
        f = figures[key]
        low, median, high = (f"{f[name]:,.{digits}f}" for name in ("min", "median", "max"))
        say(f"times      {what:<33} {median} {f['unit']}   ({low} to {high}, {f['n']} times)")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    # Each cold start leaves a user endpoint behind, and a site bounds those of one account.
    parser.add_argument(
        "--repetitions", type=int, default=5, choices=range(1, 16), metavar="N", help="(5)"
    )
    parser.add_argument("--tasks", type=int, default=1000, help="in each throughput run (1000)")
    return parser.parse_args()


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
