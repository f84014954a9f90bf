"""Names that change while root uses them: whoever swaps them, root reads and writes its own files.

Where the site is set up well, nothing can be swapped at all. Where it is not, root refuses, also
when a directory is good at one moment and bad at the next.
"""

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from warden_harness import (
    OPEN_TO_ALL,
    PROGRAM,
    WAIT_S,
    Peer,
    Warden,
    granted,
    identity,
    name_of,
    refused,
    started,
)

from mep.manager.packets import Exited, Started
from mep.root import children, files
from mep.root.messages import Stop
from mep.root.refusal import ConfigError

pytestmark = pytest.mark.root

ALICE, BOB = identity("alice"), identity("bob")
RACER = Path(__file__).parent / "racer.py"
FORGED = bytes(32)
ROUNDS = 10
FLIPPED_S = 0.7
STARTS = 4
SLEEP = ["/bin/sleep", "600"]
OUTCOMES = {"root's", "refused"}
PLAIN = "others can change "


@contextmanager
def racing(account: pwd.struct_passwd, **plan: Any) -> Iterator[dict[str, Counter[str]]]:
    """A racer of that account; afterwards what it tried and did."""
    whole = {"names": [], "bait": "/", "swaps": [], "descriptors": False} | plan
    found: dict[str, Counter[str]] = {}
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-S", "-c", RACER.read_text(), json.dumps(whole)],
        user=account.pw_uid, group=account.pw_gid, extra_groups=[],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as racer:  # fmt: skip
        try:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "racing\n"
            yield found
            said, _ = racer.communicate(timeout=WAIT_S)
            assert racer.returncode == 0
            found |= {key: Counter(counts) for key, counts in json.loads(said).items()}
        finally:
            racer.kill()


def bait(warden: Warden, account: pwd.struct_passwd) -> Path:
    """A directory of the account's with all that root would be misled by, or would write to."""
    alice, bob = warden.accounts["alice"].pw_name, warden.accounts["bob"].pw_name
    rule = {"source": "{username}", "match": ".*", "output": bob}
    mapping = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}
    texts = {
        "policy.toml": (warden.etc / "policy.toml").read_text() + f'\ndeny_groups = ["{alice}"]\n',
        "grant.key": f"1 {FORGED.hex()}\n",
        "parent.json": json.dumps({"endpoint_id": BOB["id"]}),
        "denied": f"{alice}\n",
        "identity_mapping.json": json.dumps([mapping]),
        **dict.fromkeys(("user_config_template.yaml.j2", "user_config_schema.json", "lock", "new",
                         "user_environment.yaml", "audit.log", "decoy"), "canary"),
    }  # fmt: skip
    place = warden.base / f"bait-{account.pw_uid}"
    place.mkdir()
    for name, text in texts.items():
        (place / name).write_text(text)
        (place / name).chmod(0o666 if text == "canary" else 0o600 if name == "grant.key" else 0o644)
        os.chown(place / name, account.pw_uid, account.pw_gid)
    os.chown(place, account.pw_uid, account.pw_gid)
    return place


def living(warden: Warden) -> list[children.Record]:
    return children.living(str(warden.base / "state"))


def contents(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.iterdir()}


def touched(warden: Warden) -> list[str]:
    """Every path that root uses, and every directory above one."""
    package = PROGRAM.parents[1]
    paths = [
        *(warden.etc / name for name in (
            "policy.toml", "grant.key", "parent.json", "denied", "identity_mapping.json",
            "user_config_template.yaml.j2", "user_config_schema.json", "user_environment.yaml")),
        *(warden.base / "state" / name for name in ("lock", "new", ALICE["id"])),
        warden.base / "log/audit.log",
        *PROGRAM.parent.glob("*.py"), *PROGRAM.parent.glob("__pycache__/*.pyc"),
        package / "callout/__main__.py", package / "endpoint/launch.py",
        Path(sys.executable), Path(os.path.realpath(sys.executable)),
        *map(Path, ("/etc/pam.d/mep", "/etc/passwd", "/etc/shadow", "/etc/group", "/dev/log")),
    ]  # fmt: skip
    return sorted({str(one) for path in paths for one in (path, *path.parents) if one.name})


def begin(peer: Peer, boot_id: str, person: dict[str, str], account: pwd.struct_passwd) -> str:
    """A user endpoint that runs as that account; its id."""
    start = granted(boot_id, person)
    peer.say(start)
    assert started(peer.hear()).account == account.pw_name
    return name_of(start)


def end(peer: Peer, name: str) -> None:
    peer.say(Stop(name))
    reply = peer.hear()
    assert isinstance(reply, Exited)
    assert (reply.user_endpoint_id, reply.said) == (name, "")


@pytest.mark.skipif(
    OPEN_TO_ALL, reason="the code lies beneath a directory that everyone may write to"
)
def test_what_root_uses_can_be_swapped_by_nobody(warden: Warden) -> None:
    """The manager, the look-ups' account and a mapped user at once, while settings change."""
    alice, bob = warden.accounts["alice"], warden.accounts["bob"]
    warden.set_policy(endpoint_command=SLEEP, starts_per_minute=1000)
    racers = {"manager": warden.manager, "map": warden.callout, "alice": alice}
    baits = {who: bait(warden, account) for who, account in racers.items()}
    before = {who: contents(place) for who, place in baits.items()}
    names, found = touched(warden), {}
    # The one directory that the manager may change has the socket for events.
    run = warden.base / "run"
    (run / "decoy").symlink_to(baits["manager"] / "decoy")
    swaps = {"manager": [(str(run / "events.sock"), str(run / "decoy"))]}
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        os.chown(run, warden.manager.pw_uid, -1)
        lasting = begin(peer, boot_id, ALICE, alice)
        with ExitStack() as stack:
            for who, account in racers.items():
                plan = {"names": names, "bait": str(baits[who]), "swaps": swaps.get(who, [])}
                race = racing(account, **plan, descriptors=who == "alice")
                found[who] = stack.enter_context(race)
            for number in range(ROUNDS):
                denied = number % 2 == 1
                warden.set_policy(deny_users=[bob.pw_name] if denied else [])
                warden.write("denied", f"# {number}\n")
                warden.map()
                first = begin(peer, boot_id, ALICE, alice)
                records = {one.user_endpoint_id: one for one in living(warden)}
                assert set(records) == {first, lasting}
                assert {one.uid for one in records.values()} == {alice.pw_uid}
                for one in records.values():
                    os.kill(one.leader, signal.SIGHUP)
                peer.say(granted(boot_id, ALICE, key=FORGED))
                assert refused(peer.hear()).code == "GRANT_REFUSED"
                if denied:
                    peer.say(granted(boot_id, BOB))
                    assert refused(peer.hear()).code == "ACCOUNT_REFUSED"
                else:
                    end(peer, begin(peer, boot_id, BOB, bob))
                end(peer, first)
        end(peer, lasting)
    for who, what in found.items():
        assert all(what["tried"][way] for way in ("exchange", "symlink", "link", "unlink", "mkdir"))
        assert list(what["done"]) == [f"swap {one}" for one, _ in swaps.get(who, [])]
        assert contents(baits[who]) == before[who]
    assert found["alice"]["tried"]["reopen"]
    assert warden.count("settings-refused") == 0
    assert warden.count("settings-read") >= ROUNDS
    assert warden.count("started") == 1 + ROUNDS + ROUNDS // 2


def loosen_group(folder: Path, account: pwd.struct_passwd) -> None:
    os.chown(folder, 0, account.pw_gid)
    folder.chmod(0o775)


def loosen_all(folder: Path, account: pwd.struct_passwd) -> None:
    folder.chmod(0o777)


def loosen_sticky(folder: Path, account: pwd.struct_passwd) -> None:
    folder.chmod(0o1777)


def give_away(folder: Path, account: pwd.struct_passwd) -> None:
    os.chown(folder, account.pw_uid, account.pw_gid)


def tighten(folder: Path) -> None:
    os.chown(folder, 0, 0)
    folder.chmod(0o755)


Loosen = Callable[[Path, pwd.struct_passwd], None]


@contextmanager
def flipping(folder: Path, account: pwd.struct_passwd, loosen: Loosen) -> Iterator[None]:
    """Root gives a directory away and takes it back, as fast as it can; in the end it is root's."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(150)
            while True:
                loosen(folder, account)
                tighten(folder)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        tighten(folder)


@pytest.mark.parametrize(
    ("loosen", "inside"),
    [(loosen_group, ""), (loosen_all, ""), (loosen_sticky, ""), (give_away, "etc")],
)
def test_a_directory_that_is_root_s_at_one_moment_and_not_at_the_next(
    warden: Warden, loosen: Loosen, inside: str
) -> None:
    """Refused, or root's own: never what lies there instead, not even in between."""
    alice, up = warden.accounts["alice"], warden.base / "up"
    up.mkdir()
    warden.etc = warden.etc.rename(up / "etc")
    warden.write("denied", "# nobody\n")
    warden.write("user_config_schema.json", "{}")  # what may be missing is on both sides
    warden.start(endpoint_command=SLEEP, starts_per_minute=1000)
    theirs = bait(warden, warden.manager)
    (up / "link").symlink_to(theirs)
    os.chown(up / "link", warden.manager.pw_uid, -1, follow_symlinks=False)
    swaps = [(str(up / "etc"), str(up / "link"))]
    good = {name: (warden.etc / name).read_bytes() for name in ("policy.toml", "denied")}
    if inside:
        swaps = [(str(warden.etc / name), str(theirs / name)) for name in good]
    seen: Counter[str] = Counter()
    swapped = loosen is loosen_sticky  # there nobody can
    with warden.manager_connected() as (peer, boot_id):
        begin(peer, boot_id, ALICE, alice)
        (record,) = living(warden)
        racer = racing(warden.manager, swaps=swaps)
        with racer as found, flipping(up / inside, warden.manager, loosen):
            enough = time.monotonic() + FLIPPED_S
            late = enough + WAIT_S
            while time.monotonic() < enough or not swapped or len(seen) < len(OUTCOMES):
                assert time.monotonic() < late, (seen, swapped)
                swapped = swapped or os.lstat(swaps[0][0]).st_uid != 0
                os.kill(record.leader, signal.SIGHUP)  # which reads all of them again
                for name, text in good.items():
                    try:
                        read = files.read(str(warden.etc / name), optional=name == "denied")
                        seen["root's" if read == text else repr(read)] += 1
                    except ConfigError:
                        seen["refused"] += 1
            for _ in range(STARTS):
                peer.say(granted(boot_id, ALICE))
                match peer.hear():
                    case Started(account=name):
                        assert name == alice.pw_name
                    case other:
                        assert refused(other).code == "START_FAILED"
                        assert PLAIN in warden.refusal()["why"]
            peer.say(granted(boot_id, ALICE, key=FORGED))
            assert refused(peer.hear()).code == "GRANT_REFUSED"
        assert record in living(warden)
    assert set(seen) == OUTCOMES
    assert (found["done"].total() == 0) == (loosen is loosen_sticky)
    said = [one["why"] for one in warden.audit() if one["event"] == "settings-refused"]
    assert all(PLAIN in why for why in said)
    assert not warden.count("ending")


def test_a_state_directory_that_others_can_write_by_now(warden: Warden) -> None:
    """Root would follow a link that lies there: it starts nobody, until it is put right."""
    alice, state = warden.accounts["alice"], warden.base / "state"
    target = warden.base / "target"
    target.write_text("canary")
    warden.start(endpoint_command=SLEEP)
    with warden.manager_connected() as (peer, boot_id):
        for name in ("new", "lock"):
            (state / name).unlink(missing_ok=True)
            (state / name).symlink_to(target)
        for loosen in (loosen_group, loosen_all, loosen_sticky, give_away):
            loosen(state, warden.manager)
            peer.say(granted(boot_id, ALICE))
            assert refused(peer.hear()).code == "START_FAILED"
            assert f"others can change {state}: " in warden.refusal()["why"]
            assert target.read_text() == "canary"
            tighten(state)
        for name in ("new", "lock"):
            (state / name).unlink()
        begin(peer, boot_id, ALICE, alice)


@pytest.mark.parametrize("folder", ["state", "log", "etc"])
@pytest.mark.parametrize("loosen", [loosen_group, loosen_all, loosen_sticky, give_away])
def test_no_warden_begins_with_a_directory_that_others_can_write(
    warden: Warden, folder: str, loosen: Loosen
) -> None:
    """That it is open above them is refused as well: here it is the next directory."""
    up = warden.base / "up"
    up.mkdir()
    (warden.base / folder).rename(up / folder)
    (warden.base / folder).symlink_to(up / folder)
    warden.set_policy()
    warden.map()
    command = [one.replace(f"{warden.base}/{folder}", f"{up}/{folder}") for one in warden.command()]
    loosen(up, warden.manager)
    done = subprocess.run(
        command, pass_fds=(warden.listener.fileno(),), env={}, timeout=WAIT_S,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"others can change {up}: " in done.stderr
    assert (
        list((up / "log").iterdir() if folder == "log" else (warden.base / "log").iterdir()) == []
    )
