"""What the warden executes in these tests: shows what it is given, then does as its options say.

Standard library only, run as the mapped user. What it sees goes to ``~/seen-ID.json``; then one
datagram to the events socket says that it is there.
"""

import fcntl
import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys

MAGIC = b"MEP handover 1\n"


def sections(data: bytes) -> dict[str, bytes]:
    assert data.startswith(MAGIC)
    found, at = {}, len(MAGIC)
    while at < len(data):
        name, length = struct.unpack_from(">16sI", data, at)
        at += 20
        found[name.rstrip(b"\0").decode()] = data[at : at + length]
        at += length
    return found


def reopens() -> str:
    """What comes of opening the memory file a second time, for writing or for reading."""
    said = []
    for flags in (os.O_RDONLY, os.O_RDWR):
        try:
            os.close(os.open("/proc/self/fd/3", flags))
            said.append("opened")
        except OSError as error:
            said.append(os.strerror(error.errno))
    return ", ".join(said)


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the listing's own
    return found


def seen() -> dict[str, object]:
    status = pathlib.Path("/proc/self/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    memory = os.fstat(3)
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": sorted(os.getgroups()),
        "status": {
            key: fields[key].strip()
            for key in fields
            if key.startswith(("Cap", "Sig", "NoNewPrivs"))
        },
        "descriptors": descriptors(),
        "environment": dict(os.environ),
        "umask": os.umask(0o777),
        "limits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        },
        "cwd": os.getcwd(),
        "session": os.getsid(0) == os.getpid() == os.getpgid(0),
        "pid": os.getpid(),
        "alarm": signal.alarm(0),
        "ignored": sorted(
            int(one) for one in signal.valid_signals() if signal.getsignal(one) == signal.SIG_IGN
        ),
        "memory_mode": oct(memory.st_mode & 0o7777),
        "memory_uid": memory.st_uid,
        "memory_flags": fcntl.fcntl(3, fcntl.F_GETFL) & os.O_ACCMODE,
        "seals": fcntl.fcntl(3, fcntl.F_GET_SEALS),
        "reopens": reopens(),
    }


def main() -> None:
    facts_seen = seen()
    os.umask(0o077)
    got = sections(os.pread(3, 8 * 1024 * 1024, 0))
    facts = json.loads(got["facts"])
    facts_seen["sections"] = {name: body.decode("latin-1") for name, body in got.items()}
    wish = json.loads(got["options"]).get("do", "wait")
    print("said to stdout")
    name = facts["user_endpoint_id"]
    target = pathlib.Path(f"seen-{name}.json")
    target.write_text(json.dumps(facts_seen))
    if wish == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = 0
    if wish in ("ignore", "family"):
        script = (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print(1, flush=True); signal.pause()"
        )
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", script], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        grandchild = process.pid
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
        events.sendto(json.dumps([name, os.getpid(), grandchild]).encode(), facts["events_socket"])
    act(wish)


def succeeded(attack: dict[str, list]) -> list[str]:
    """What could be done to somebody else's processes, files and sockets."""
    done = []
    for pid in attack["pids"]:
        try:
            os.kill(pid, 0)
            done.append(f"signal {pid}")
        except PermissionError:
            pass
    for path in attack["paths"]:
        try:
            os.close(os.open(path, os.O_RDONLY))
            done.append(path)
        except (PermissionError, FileNotFoundError):
            pass
    for path in attack["sockets"]:
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as connection:
                try:
                    connection.connect(path)
                    done.append(path)
                except (PermissionError, FileNotFoundError):
                    pass
    return done


def act(wish: str) -> None:
    match wish.split(":", 1):
        case ["exit", status]:
            os._exit(int(status))
        case ["say", text]:
            os.write(4, text.encode())
            os._exit(9)
        case ["attack", what]:
            print(json.dumps(succeeded(json.loads(what))), flush=True)
            os._exit(0)
        case ["flood", _]:
            os.write(4, b"x" * 60000)
            os._exit(9)
        case _:
            signal.pause()


if __name__ == "__main__":
    main()
