"""What every test may use: skips that CI does not forgive, a directory that root trusts, accounts.

`root` tests really change uid, so they need root; without it they are skipped, saying so. With
``MEP_REQUIRE_ALL=1`` (CI) a skip is a failure: a machine that lacks something must be told.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    from testbed.postgres import Server
    from testbed.slapd import Directory
    from testbed.slurm import Cluster

REQUIRE_ALL = os.environ.get("MEP_REQUIRE_ALL") == "1"
NEEDS_ROOT = "needs root: it makes accounts and changes uid (run the tests as root to include it)"

ACCOUNT_LOCK = Path("/run/lock/mep-test-accounts.lock")
ACCOUNT_PREFIX = "mept-"
OWNER_MARK = "mep test account of process"
FIRST_UID = 1000

NewAccount = Callable[..., pwd.struct_passwd]


def pytest_configure() -> None:
    """Processes of tests have signals as on a terminal; jobs of a shell or nohup ignore some."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # still ignored here, but not inherited


# How long an example takes says something of the machine, and nothing of what is tested.
hypothesis_settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any machine")


# --- skips --------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `root` tests for anyone but root."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=NEEDS_ROOT))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, "pytest.CallInfo[None]", None]:
    """In CI, a test that skips itself fails."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, None, None]:
    """In CI, a module that skips itself as a whole fails."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRE_ALL and report.skipped:
        _fail(report)


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{reason.removeprefix('Skipped: ')}\nMEP_REQUIRE_ALL=1: a skip is a failure"


# --- directories and accounts -------------------------------------------------------------------


@pytest.fixture
def site_root() -> Iterator[Path]:
    """A fresh directory that root trusts: no other account can write it or an ancestor of it.

    Mode 0755 and outside ``/tmp``, so that mapped users can reach what is put there for them.
    """
    with _site_directory() as path:
        yield path


@pytest.fixture(scope="session")
def session_site_root() -> Iterator[Path]:
    """As :func:`site_root`, one for the whole run."""
    with _site_directory() as path:
        yield path


@pytest.fixture
def new_account() -> Iterator[NewAccount]:
    """A factory of throw-away accounts: ``new_account("alice")``, ``new_account("bob", "--shell",
    "/bin/sh")``. The label becomes part of the name; further arguments are passed to ``useradd``.

    When the test ends, however it ends, the processes of the account are killed and the account,
    its home and its group are removed.
    """
    with _accounts() as make:
        yield make


@pytest.fixture(scope="session")
def session_accounts() -> Iterator[NewAccount]:
    """As :func:`new_account`, removed at the end of the whole run."""
    with _accounts() as make:
        yield make


# --- databases ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator["Server"]:
    """A PostgreSQL server; see :mod:`testbed.postgres`."""
    from testbed.postgres import Server, missing

    if reason := missing():
        pytest.skip(reason)
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def slapd() -> Iterator["Directory"]:
    """An LDAP directory; see :mod:`testbed.slapd`."""
    from testbed.slapd import Directory, missing

    if reason := missing():
        pytest.skip(reason)
    with Directory() as directory:
        yield directory


# --- a batch system -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator["Cluster"]:
    """Four nodes under a real Slurm, without accounting; see :mod:`testbed.slurm`."""
    yield from _cluster(with_accounting=False)


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator["Cluster"]:
    """The same with slurmdbd: here `sacct` works."""
    yield from _cluster(with_accounting=True)


@pytest.fixture
def slurm(slurm_cluster: "Cluster") -> Iterator["Cluster"]:
    """The cluster of the session, with no job and every node idle, before and after the test."""
    slurm_cluster.reset()
    yield slurm_cluster
    slurm_cluster.reset()


@pytest.fixture
def slurm_with_accounting(accounting_cluster: "Cluster") -> Iterator["Cluster"]:
    """As :func:`slurm`, with `sacct`."""
    accounting_cluster.reset()
    yield accounting_cluster
    accounting_cluster.reset()


def _cluster(*, with_accounting: bool) -> Iterator["Cluster"]:
    from testbed.slurm import Cluster, missing

    if reason := missing(with_accounting):
        pytest.skip(reason)
    with Cluster(with_accounting=with_accounting) as cluster:
        yield cluster


@contextlib.contextmanager
def _site_directory() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    path = Path(tempfile.mkdtemp(prefix="mep-test-", dir="/var/lib"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextlib.contextmanager
def _accounts() -> Iterator[NewAccount]:
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    with contextlib.ExitStack() as stack:

        def make(label: str = "user", *options: str) -> pwd.struct_passwd:
            entry = _add_account(label, options)
            stack.callback(_remove_account, entry.pw_name)
            return entry

        yield make


def pytest_sessionstart() -> None:
    """Remove accounts that a killed test run has left behind."""
    if os.geteuid() == 0:
        for entry in pwd.getpwall():
            if entry.pw_name.startswith(ACCOUNT_PREFIX) and _is_orphan(entry.pw_gecos):
                _remove_account(entry.pw_name)


def _is_orphan(gecos: str) -> bool:
    mark, _, pid = gecos.rpartition(" ")
    return mark == OWNER_MARK and pid.isdigit() and not Path("/proc", pid).exists()


def _add_account(label: str, options: tuple[str, ...]) -> pwd.struct_passwd:
    name = f"{ACCOUNT_PREFIX}{label}-{secrets.token_hex(3)}"
    comment = f"{OWNER_MARK} {os.getpid()}"
    command = ["useradd", "--create-home", "--user-group", "--comment", comment, *options]
    command += ["--password", "*", name]  # no password, but not locked
    with _account_lock():
        subprocess.run(command, check=True, timeout=60, capture_output=True)
    return pwd.getpwnam(name)


def _remove_account(name: str) -> None:
    _kill_all_of(pwd.getpwnam(name).pw_uid)
    with _account_lock():
        # 12: the home directory was not there to be removed, which is fine.
        done = subprocess.run(
            ["userdel", "--force", "--remove", name],
            check=False,
            timeout=60,
            capture_output=True,
            text=True,
        )
    if done.returncode not in (0, 12):
        raise RuntimeError(f"userdel {name}: {done.stderr}")


def _kill_all_of(uid: int) -> None:
    """Kill the processes of a throw-away uid until none is left that could fork another.

    Raises:
        RuntimeError: it is the uid of more than tests; never is anything of root's killed.
    """
    if uid < FIRST_UID:
        raise RuntimeError(f"uid {uid} is no throw-away account's")
    while pids := [pid for pid in _pids() if _lives_as(pid, uid)]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _lives_as(pid: int, uid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return fields["Uid"].split()[0] == str(uid) and fields["State"].split()[0] not in "ZX"


@contextlib.contextmanager
def _account_lock() -> Iterator[None]:
    """One useradd or userdel at a time: beside each other they fail on the password file's lock."""
    with ACCOUNT_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
