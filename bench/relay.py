"""The relay as part of the whole service, with many peers, and its memory.

Prints a table and writes bench/out/relay.json:

==================  ==============================================================================
tasks_per_s         no-op tasks from submit to result: SDK, relay (SQLite, synchronous=FULL), one
                    user endpoint with 2 workers, all on this machine
warm_p50            ms, one such task at a time
p50_200_clients     ms from the moment a task was due to its result: 200 SDK clients with a stream
p99_200_clients     and a connection each, 50 user endpoints, 500 single tasks a second in all; the
                    peers are simulated in one process, so that the figures hold their delays too
relay_growth_mib    by how much the relay's memory (PSS) grew over 200,000 tasks, after 50,000
relay_pss_mib       what it was then
==================  ==============================================================================

python bench/relay.py [RUNS] [--scale F]; a scale below 1 is for trying it out.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from parts.harness import pss_mib
from parts.relay_peers import Api, Client, EchoSite, RelayProcess, relay_cli
from parts.table import Figures, report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from demo_house import ROOT, house, sweep

LIMIT_S = 120.0
CLIENTS = 200
ENDPOINTS = 50
RATE = 500
SECONDS = 10.0
WARM_UP = 50_000
TASKS = 200_000
BATCH = 500
AHEAD = 4_000
"""Tasks that may be under way at once while memory is watched."""


def service(scale: float) -> Figures:
    """Real processes of every kind."""
    person = "alice" if ROOT else "site-admin"
    sweep()
    with house() as built:
        if ROOT:
            built.make_accounts([person])
        built.start_relay()
        built.add_person("site-admin", admin=ROOT)
        if ROOT:
            built.add_person(person, admin=False)
        built.start_site("site-admin")
        options = {"LABEL": "bench", "MAX_WORKERS": 2}
        with built.laptop(person) as laptop:
            laptop.do("many", options=options, count=2_000)
            count = int(20_000 * scale)
            rate = laptop.do("many", options=options, count=count)["tasks_per_s"]
            p50 = laptop.do("warm", options=options, count=int(300 * scale) + 1)["p50_ms"]
    return {"tasks_per_s": rate, "warm_p50": p50}


def alone(scale: float) -> Figures:
    """A relay with simulated peers."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        relay_cli("init", data)
        relay_cli("user", "add", "admin", "--admin", "--data", data)
        token = relay_cli("token", "create", "admin", "--data", data)["token"]
        relay = RelayProcess(data, arguments=())
        try:
            api = Api(relay.url, token)
            with api.session:
                return asyncio.run(_measure(relay, api, scale))
        finally:
            relay.stop()


async def _measure(relay: RelayProcess, api: Api, scale: float) -> Figures:
    function_id = api.function()
    async with AsyncExitStack() as stack:
        sites = [EchoSite(relay.url, api.endpoint(), api, function_id) for _ in range(ENDPOINTS)]
        for site in sites:
            await site.open(stack)
        clients = [Client(relay.url, api.token or "") for _ in range(CLIENTS)]
        for client in clients:
            await client.open(stack)
        endpoints = [site.endpoint_id for site in sites]
        async with asyncio.timeout(LIMIT_S):
            for number, client in enumerate(clients):
                endpoint_id = endpoints[number % ENDPOINTS]
                await client.submit(endpoint_id, function_id, 1, time.perf_counter())
                await client.until(lambda client=client: not client.waiting)
                client.seconds.clear()
        figures = await _crowd(clients, endpoints, function_id, SECONDS * scale)
        figures |= await _growth(relay, clients[0], endpoints[0], function_id, scale)
    return figures


async def _crowd(
    clients: list[Client], endpoints: list[str], function_id: str, seconds: float
) -> Figures:
    count = int(RATE * seconds)
    began = time.perf_counter() + 0.1
    running: list[asyncio.Task[None]] = []
    for number in range(count):
        due = began + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        client = clients[number % len(clients)]
        submit = client.submit(endpoints[number % len(endpoints)], function_id, 1, due)
        running.append(asyncio.create_task(submit))
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*running)
        for client in clients:
            await client.until(lambda client=client: not client.waiting)
    times = sorted(1000 * each for client in clients for each in client.seconds)
    if len(times) != count:
        raise RuntimeError(f"{len(times)} of {count} results")
    return {
        "p50_200_clients": statistics.median(times),
        "p99_200_clients": times[int(len(times) * 0.99)],
    }


async def _growth(
    relay: RelayProcess, client: Client, endpoint_id: str, function_id: str, scale: float
) -> Figures:
    await _many(client, endpoint_id, function_id, int(WARM_UP * scale))
    before = pss_mib([relay.process.pid])
    await _many(client, endpoint_id, function_id, int(TASKS * scale))
    after = pss_mib([relay.process.pid])
    return {"relay_growth_mib": after - before, "relay_pss_mib": after}


async def _many(client: Client, endpoint_id: str, function_id: str, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        first = client.ended
        for sent in range(0, count, BATCH):
            await client.until(lambda sent=sent: client.ended >= first + sent - AHEAD)
            await client.submit(endpoint_id, function_id, BATCH, time.perf_counter())
        await client.until(lambda: not client.waiting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="?", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    scale = arguments.scale
    report("relay", [service(scale) | alone(scale) for _ in range(arguments.runs)])


if __name__ == "__main__":
    main()
