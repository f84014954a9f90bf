"""A manager process whose relay and warden are away: what is left is the audit log."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELAY = "http://127.0.0.1:1"


@contextmanager
def manager_alone(top: Path, settings: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    """Ready, with ``etc``, ``state``, ``run`` and ``log`` in `top`; `settings` are YAML."""
    for name in ("etc", "state", "run", "log"):
        (top / name).mkdir(exist_ok=True)
    etc = top / "etc"
    (etc / "config.yaml").write_text(f"relay_url: {RELAY}\n{settings}")
    (etc / "policy.toml").write_text("")
    (etc / "manager.token").write_text("token\n")
    parent = {"endpoint_id": "e", "endpoint_name": "test", "relay_url": RELAY}
    (etc / "parent.json").write_text(json.dumps(parent))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind("")
        ready.settimeout(20)
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-m", "mep.manager", "--config", str(etc)),
                *("--state", str(top / "state"), "--run", str(top / "run")),
                *("--log", str(top / "log"), "--warden", str(top / "warden.sock")),
            ],
            env={"NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()},
            stderr=subprocess.DEVNULL,
        )
        while b"READY=1" not in ready.recv(4096):
            pass
        yield process
    process.terminate()
    assert process.wait(20) == 0
