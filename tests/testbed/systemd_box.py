"""A machine that systemd has booted: this one's files under an overlay, everything else its own.

PID 1 is a real systemd in namespaces for mounts, processes, network and control groups; what is
written there is gone afterwards. It ends with the test run, even if that is killed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CONTROLLERS = ("cpu", "cpuacct", "pids", "memory", "freezer", "devices", "blkio")
CGROUPS = Path("/sys/fs/cgroup")
WAIT_S = 60.0
PACKAGES = {"/lib/systemd/systemd": "systemd", "/usr/bin/dbus-daemon": "dbus"}
MODULES = ("/lib/x86_64-linux-gnu/security", "/lib/aarch64-linux-gnu/security")

SCRIPT = """
set -e
mount -t tmpfs tmpfs "$0"; mkdir "$0/up" "$0/work" "$0/all"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/up,workdir=$0/work" "$0/all"
cd "$0/all"
hostname mepbox; ip link set lo up
mount -t proc proc proc; mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run; mkdir run/lock
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mkdir dev/shm; mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd
CGROUPS
mkdir -p mnt/old; pivot_root . mnt/old; cd /; umount -l /mnt/old
exec env -i container=mepbox PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --log-target=journal
"""
MOUNT_V1 = """
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
for c in CONTROLLERS; do
    mkdir sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup sys/fs/cgroup/$c
done
mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
""".replace("CONTROLLERS", " ".join(CONTROLLERS))


class Layout(NamedTuple):
    """How control groups are mounted in a box, and in which of this machine's it lives."""

    version: int
    mount: str
    hierarchies: list[Path]


def layouts() -> list[Layout]:
    """What this machine offers: version 2 alone, or both, or none."""
    v1 = [CGROUPS / one for one in (*CONTROLLERS, "systemd", "unified")]
    v2 = [one for one in (CGROUPS, CGROUPS / "unified") if (one / "cgroup.controllers").exists()]
    both = [
        Layout(1, MOUNT_V1, v1 if all(one.is_dir() for one in v1) else []),
        Layout(2, "mount -t cgroup2 cgroup2 sys/fs/cgroup", v2[:1]),
    ]
    return [one for one in both if one.hierarchies]


def missing() -> str:
    """Why there can be no box here; empty where there can."""
    for path, package in PACKAGES.items():
        if not Path(path).exists():
            return f"needs {path} (package {package})"
    if not any(Path(place, "pam_systemd.so").exists() for place in MODULES):
        return "needs pam_systemd.so (package libpam-systemd)"
    return "" if layouts() else "needs control groups for a systemd of its own"


class Box:
    """A booted machine; `pid` is its PID 1, as seen from here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def try_(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command there, whatever comes of it."""
        enter = ["nsenter", "--target", str(self.pid), "--all"]
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=WAIT_S, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}, cwd="/",
        )  # fmt: skip

    def __call__(self, *command: str) -> str:
        """Standard output of a command that succeeds."""
        done = self.try_(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def booted(layout: Layout) -> Iterator[Box]:
    """A box that is up."""
    name = f"mepbox-{os.getpid()}"
    place = tempfile.mkdtemp(prefix="mep-box-")
    groups = [one / name for one in layout.hierarchies]
    for group in groups:
        group.mkdir(exist_ok=True)
    namespaces = ["--cgroup", "--mount", "--pid", "--uts", "--ipc", "--net"]

    def enter_groups() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        # unshare's child, PID 1, ends with it.
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    process = subprocess.Popen(
        ["unshare", *namespaces, "--fork", "--kill-child=SIGKILL", "--propagation", "private",
         "bash", "-c", SCRIPT.replace("CGROUPS", layout.mount), place],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=enter_groups,
    )  # fmt: skip
    try:
        yield _up(process)
    finally:
        process.kill()
        process.wait()
        for group in groups:
            _remove(group)
        shutil.rmtree(place, ignore_errors=True)


def _up(process: "subprocess.Popen[bytes]") -> Box:
    late = time.monotonic() + WAIT_S
    while time.monotonic() < late:
        assert process.poll() is None, "the box ended while it booted"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n":
            box = Box(int(children[0]))
            if box.try_("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return box
        time.sleep(0.1)
    raise AssertionError("the box does not come up")


def _remove(group: Path) -> None:
    """A control group and those below it, as soon as their processes are gone."""
    late = time.monotonic() + WAIT_S
    while group.exists() and time.monotonic() < late:
        for path in sorted(group.rglob("*"), reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)
