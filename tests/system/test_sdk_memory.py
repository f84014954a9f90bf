"""The memory of a client that has had two hundred thousand futures."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "sdk.py"
MOST_GROWTH_MB = 4.0

CLIENT = """
import gc, json, os, sys
from mep_sdk import Client, Executor

def nothing():
    pass

def resident_mb():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

client = Client(sys.argv[1], "token")
with Executor(sys.argv[2], client=client, batch_size=512) as ex:
    ex.submit(nothing).result(60)
    sizes = []
    for _ in range(40):
        futures = [ex.submit(nothing) for _ in range(5_000)]
        for future in futures:
            assert future.result(60) is None
        del future, futures
        sizes.append(resident_mb())
    left = len(client.result_stream().ledger)

print(json.dumps({"sizes": sizes, "left": left}))
"""


def test_memory_is_flat_over_200_000_futures() -> None:
    with subprocess.Popen(
        [sys.executable, str(BENCH), "serve"], stdout=subprocess.PIPE, text=True
    ) as relay:
        try:
            assert relay.stdout is not None
            url = f"http://127.0.0.1:{int(relay.stdout.readline())}"
            endpoint = "7dd8a3a6-34a0-4e3c-8e75-98a4b1f7a0f5"
            done = subprocess.run(
                [sys.executable, "-c", CLIENT, url, endpoint],
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
        finally:
            relay.terminate()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["left"] == 0
    # The first tenth fills what is remembered of tasks that have ended, which is bounded.
    assert max(told["sizes"][4:]) - told["sizes"][4] < MOST_GROWTH_MB, told["sizes"]
