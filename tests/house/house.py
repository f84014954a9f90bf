"""A relay and a multi-user site as real processes, driven by their own commands."""

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mep_sdk import Client, Executor

BIN = Path(sys.executable).parent
DOMAIN = "example.edu"
WAIT_S = 60.0

TEMPLATE = """\
display_name: {{ label|default("test site") }}
engine:
  type: {{ engine|default("GlobusComputeEngine") }}
{% if engine is defined and engine == "ThreadPoolEngine" %}
  max_workers: 2
{% elif engine is defined and engine == "ProcessPoolEngine" %}
  max_workers: 2
{% else %}
  max_workers_per_node: {{ workers|default(1) }}
  max_retries_on_system_failure: {{ retries|default(0) }}
{% if container_type is defined %}
  container_type: {{ container_type }}
  container_uri: {{ container_uri }}
  container_cmd_options: {{ container_cmd_options|default() }}
{% endif %}
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 0
    max_blocks: 1
{% endif %}
{% if surprise is defined %}
{{ surprise_key|default("no_such_setting") }}: {{ surprise }}
{% endif %}
{% if broken is defined %}
  - [unbalanced
{% endif %}
"""

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "workers": {"type": "integer", "minimum": 1, "maximum": 4},
        "retries": {"type": "integer", "minimum": 0},
        "engine": {"type": "string"},
        "label": {"type": "string"},
        "tag": {"type": "string"},
        "container_type": {"enum": ["podman"]},
        "container_uri": {"type": "string"},
        "container_cmd_options": {"type": "string"},
        "surprise": {"type": "integer"},
        "broken": {"type": "boolean"},
    },
    "additionalProperties": False,
}


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """The condition's first true value; the test fails when it does not come in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter: between opening and reading
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def run(*argv: str | Path, env: dict[str, str] | None = None, **kwargs: Any) -> str:
    """stdout of a command of ours; its stderr is shown when it fails."""
    done = subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **kwargs,
    )
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass
class Relay:
    """A relay process on a port of its own, and its users."""

    data: Path
    port: int = 0
    tls: tuple[Path, Path] | None = None
    """Certificate and key."""
    arguments: tuple[str, ...] = ()
    """Of ``mep-relay serve``, besides."""
    process: "subprocess.Popen[str] | None" = None
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                str(BIN / "mep-relay"),
                *("serve", "--data", str(self.data), "--port", str(self.port)),
                *self.arguments,
                *(
                    ("--tls-cert", str(self.tls[0]), "--tls-key", str(self.tls[1]))
                    if self.tls
                    else ()
                ),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("relay listening on "), line
        self.port = int(line.strip().rpartition(":")[2].rstrip("/"))

    def kill(self) -> None:
        """kill -9, and wait."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)
        self._close()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self._close()

    def _close(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()

    def token(self, user: str, *, admin: bool = False) -> str:
        """A token of a user, who is added when new."""
        if user not in self.tokens:
            flags = ["--admin"] if admin else []
            run(BIN / "mep-relay", "user", "add", user, "--data", self.data, *flags)
            made = run(BIN / "mep-relay", "token", "create", user, "--data", self.data, "--json")
            self.tokens[user] = json.loads(made)["token"]
        return self.tokens[user]

    def client(self, user: str) -> Client:
        ca_file = str(self.tls[0]) if self.tls else None
        return Client(relay_url=self.url, token=self.token(user), ca_file=ca_file)


@dataclass
class Site:
    """A multi-user site below a prefix of its own."""

    prefix: Path
    name: str
    relay: Relay
    accounts: dict[str, str]
    manager: str
    callout: str
    process: "subprocess.Popen[str] | None" = None
    endpoint_id: str = ""

    @property
    def env(self) -> dict[str, str]:
        return {"MEP_PREFIX": str(self.prefix)}

    @property
    def etc(self) -> Path:
        return self.prefix / "etc/mep" / self.name

    def mep(self, *argv: str, **kwargs: Any) -> str:
        return run(BIN / "mep", *argv, env=self.env, **kwargs)

    def configure(self) -> None:
        self.mep("configure", self.name, "--relay-url", self.relay.url)
        policy = (self.etc / "policy.toml").read_text()
        policy = policy.replace('manager_user = "mep"', f'manager_user = "{self.manager}"')
        policy = policy.replace('callout_user = "mep-map"', f'callout_user = "{self.callout}"')
        (self.etc / "policy.toml").write_text(policy)
        (self.etc / "user_config_template.yaml.j2").write_text(TEMPLATE)
        (self.etc / "user_config_schema.json").write_text(json.dumps(SCHEMA))
        self.map(
            *[
                {"source": "{username}", "match": f"{user}@example\\.edu", "output": account}
                for user, account in self.accounts.items()
            ]
        )

    def map(self, *rules: dict[str, Any]) -> None:
        """Replace the identity mapping, atomically as an editor would."""
        document = [
            {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": list(rules)},
        ]
        target = self.etc / "identity_mapping.json"
        fresh = target.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.replace(target)

    def start(self) -> None:
        self.mep("start", self.name, "--detach")

    def register(self) -> None:
        token = self.relay.token("root-admin", admin=True)
        run(
            *(BIN / "mep", "register", self.name),
            env={**self.env, "MEP_TOKEN": token},
        )
        self.endpoint_id = json.loads((self.etc / "parent.json").read_text())["endpoint_id"]

    def stop(self) -> None:
        self.mep("stop", self.name)

    def status(self) -> dict[str, Any]:
        return json.loads(self.mep("status", self.name, "--json"))

    def user_endpoints(self) -> list[dict[str, Any]]:
        return self.status()["user_endpoints"]

    def pid(self, of: str) -> int:
        """Of ``warden`` or ``manager``."""
        return int(self.status()[of]["pid"])

    def executor(self, user: str, **kwargs: Any) -> Executor:
        return Executor(self.endpoint_id, client=self.relay.client(user), **kwargs)


def kill9(pid: int) -> None:
    """End one process of ours, and see it gone."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), f"process {pid} gone")


class Owner:
    """An account without privilege that types the commands."""

    def __init__(self, account: pwd.struct_passwd, relay: Relay) -> None:
        self.account = account
        self.relay = relay
        self.endpoint_id = ""

    def mep(self, *argv: str, token: str = "") -> str:
        done = subprocess.run(
            [str(BIN / "mep"), *argv],
            env={
                "HOME": self.account.pw_dir,
                "USER": self.account.pw_name,
                "PATH": "/usr/bin:/bin",
                **({"MEP_TOKEN": token} if token else {}),
            },
            user=self.account.pw_uid,
            group=self.account.pw_gid,
            extra_groups=[],
            cwd=self.account.pw_dir,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout
