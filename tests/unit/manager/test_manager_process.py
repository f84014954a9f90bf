"""The real process between a scripted relay and a scripted warden."""

import asyncio
import hashlib
import json
import os
import signal
import stat
import uuid

import pytest
from manager_fakes import ENDPOINT_ID, ScriptedRelay, ScriptedWarden, write_site

from mep.manager.packets import Exited, Refused, Started
from mep.manager.sentences import refused as sentence
from mep.root import messages as root
from mep.wire import to_manager as wire

A = str(uuid.UUID(int=1))
START = wire.Start(A, "n1", b"{}", b"s" * 32, b"{}", b"{}")


def test_a_start_goes_to_the_warden_and_its_answers_come_back(manager, with_relay):
    async def scenario():
        async with (
            with_relay() as relay,
            ScriptedWarden(manager.warden_socket, "boot", []).serving() as warden,
        ):
            hello = await relay.next(wire.ManagerHello)
            assert (hello.protocol, hello.endpoint_id) == (1, ENDPOINT_ID)
            first = await relay.next(wire.WardenUp | wire.WardenDown)
            if isinstance(first, wire.WardenDown):
                first = await relay.next(wire.WardenUp)
            assert first == wire.WardenUp("boot", ())
            await relay.say(START)
            assert await warden.asked() == root.Start(b"{}", b"s" * 32, b"{}", b"{}")
            await warden.say(Started(A, "alice", 4242))
            assert await relay.next(wire.Started) == wire.Started(A, "alice", 4242)
            await warden.say(Exited(A, 3, '{"code": "CODE", "message": "bad\\u001b[2J"} \x1b[2J'))
            assert (await relay.next(wire.Exited)).status == 3
            await relay.say(wire.Stop(A))
            assert await warden.asked() == root.Stop(A)
            assert (await relay.next(wire.Status)).running == 0
            log = await manager.stop()
            assert "\x1b" not in log
            assert "started for alice" in log

    asyncio.run(scenario())


def test_what_happens_while_the_relay_is_away_is_told_afterwards(manager):
    async def scenario():
        relay = ScriptedRelay("link-token")
        async with relay.serving():
            write_site(manager.etc, relay.url)
            await manager.start()
            async with ScriptedWarden(manager.warden_socket, "boot", [A]).serving() as warden:
                await relay.next(wire.ManagerHello)
                while await relay.next(wire.WardenUp | wire.WardenDown) == wire.WardenDown():
                    pass
                await relay.say(START)
                await warden.asked()
                await relay.current.close(1001)
                await manager.told(lambda text: "X_MEP_RELAY=down" in text)
                digest = hashlib.sha256(b"{}").hexdigest()
                await warden.say(Refused("", digest, "GRANT_REFUSED", "r"))
                await relay.next(wire.ManagerHello)
                assert await relay.next(wire.WardenUp) == wire.WardenUp("boot", (A,))
                assert await relay.next(wire.Refused) == wire.Refused(
                    A, "n1", "GRANT_REFUSED", sentence("GRANT_REFUSED", "r"), "r"
                )
                await manager.stop()

    asyncio.run(asyncio.wait_for(scenario(), 150))


def test_a_warden_that_restarts_is_found_again(manager, with_relay):
    async def scenario():
        async with with_relay() as relay:
            await relay.next(wire.ManagerHello)
            await relay.next(wire.WardenDown)
            for boot in ("one", "two"):
                async with ScriptedWarden(manager.warden_socket, boot, [A]).serving():
                    assert await relay.next(wire.WardenUp) == wire.WardenUp(boot, (A,))
                await relay.next(wire.WardenDown)

    asyncio.run(scenario())


@pytest.mark.parametrize("junk", [b"?", b"R{", b"s{}", b'sx{"user_endpoint_id":1}'])
def test_a_warden_that_talks_nonsense_is_left(manager, with_relay, junk):
    async def scenario():
        async with (
            with_relay(),
            ScriptedWarden(manager.warden_socket, "boot", []).serving() as warden,
        ):
            await warden.say_bytes(junk)
            await warden.closed()

    asyncio.run(scenario())


def test_the_status_file_and_what_is_remembered_over_a_restart(manager, with_relay):
    async def scenario():
        async with with_relay() as relay:
            async with ScriptedWarden(manager.warden_socket, "boot", []).serving() as warden:
                await relay.next(wire.ManagerHello)
                await warden.say(Started(A, "alice", 4242))
                await manager.told(lambda text: "link up; warden up; 1 user endpoints" in text)
                status = manager.status()
                assert status["manager"]["pid"] == manager.process.pid
                assert status["relay"]["state"] == "up"
                assert status["warden"]["state"] == "up"
                (user,) = status["user_endpoints"]
                assert (user["user_endpoint_id"], user["account"]) == (A, "alice")
                await manager.stop()
                assert not (manager.top / "run/status.json").exists()
            await manager.start()
            async with ScriptedWarden(manager.warden_socket, "boot", [A]).serving():
                await manager.told(lambda text: "X_MEP_WARDEN=up" in text)
                assert manager.status()["user_endpoints"] == [user]
                await manager.stop()

    asyncio.run(scenario())


def test_a_refusal_of_the_relay_is_shown_and_a_new_token_repairs_it(manager):
    async def scenario():
        async with ScriptedRelay("new-token").serving() as relay:
            write_site(manager.etc, relay.url)
            await manager.start()
            await manager.told(lambda text: "X_MEP_RELAY=refused" in text)
            assert manager.status()["relay"]["message"] == "this token is revoked\ufffd[2J"
            write_site(manager.etc, relay.url, "new-token")
            manager.process.send_signal(signal.SIGHUP)
            await relay.next(wire.ManagerHello)
            assert relay.refusals == 1
            assert "\x1b" not in await manager.stop()

    asyncio.run(scenario())


def test_a_bad_configuration_ends_it_before_it_is_ready(manager):
    async def scenario():
        write_site(manager.etc, "http://127.0.0.1:1")
        (manager.etc / "config.yaml").write_text("relay_uri: x\n")
        await manager.start()
        status, log = await manager.ended()
        assert status == 78
        assert "did you mean 'relay_url'" in log
        assert "Traceback" not in log

    asyncio.run(scenario())


def test_a_bad_change_leaves_the_old_configuration(manager, with_relay):
    async def scenario():
        async with with_relay() as relay:
            await relay.next(wire.ManagerHello)
            (manager.etc / "config.yaml").write_text("relay_uri: x\n")
            manager.process.send_signal(signal.SIGHUP)
            await relay.next(wire.WardenDown)
            await relay.next(wire.Status)
            assert "the old configuration stays" in await manager.stop()

    asyncio.run(scenario())


def test_ready_is_said_without_relay_or_warden(manager):
    async def scenario():
        write_site(manager.etc, "http://127.0.0.1:1")
        await manager.start()
        text = await manager.told(lambda text: "READY=1" in text)
        assert "warden down" in text
        assert json.loads((manager.top / "state/user_endpoints.json").read_text()) == {}
        await manager.stop()

    asyncio.run(scenario())


def test_a_start_is_noted_before_the_warden_sees_it(manager, with_relay):
    grant = json.dumps({"identities": [{"id": "1", "username": "alice@example.org"}]}).encode()
    start = wire.Start(A, "n1", grant, b"s" * 32, b"{}", b"{}", ("t1",))

    async def scenario():
        async with (
            with_relay() as relay,
            ScriptedWarden(manager.warden_socket, "boot", []).serving() as warden,
        ):
            await relay.next(wire.ManagerHello)
            while await relay.next(wire.WardenUp | wire.WardenDown) != wire.WardenUp("boot", ()):
                pass
            await relay.say(start)
            await warden.asked()
            (line,) = (manager.top / "log/events.jsonl").read_text().splitlines()
            noted = json.loads(line)
            assert (noted["reported_by"], noted["endpoint_id"]) == ("the manager", ENDPOINT_ID)
            assert noted["event"] == {
                "event": "start-asked",
                "user_endpoint_id": A,
                "nonce": "n1",
                "identities": [{"id": "1", "username": "alice@example.org"}],
                "tasks": ["t1"],
            }

    asyncio.run(scenario())


def test_what_the_manager_refuses_itself_is_written_down(manager, with_relay):
    """The warden never sees it, so nobody else could tell why."""

    async def scenario():
        async with (
            with_relay() as relay,
            ScriptedWarden(manager.warden_socket, "boot", []).serving(),
        ):
            await relay.next(wire.ManagerHello)
            while await relay.next(wire.WardenUp | wire.WardenDown) != wire.WardenUp("boot", ()):
                pass
            await relay.say(wire.Start(A, "n1", b"{}", b"s" * 32, b"x" * root.MAX_PACKET, b"{}"))
            told = await relay.next(wire.Refused)
            lines = (manager.top / "log/events.jsonl").read_text().splitlines()
            asked, refused = [json.loads(line)["event"] for line in lines]
            assert asked["event"] == "start-asked"
            assert refused == {
                "event": "refused",
                "user_endpoint_id": A,
                "nonce": "n1",
                "code": "START_FAILED",
                "why": told.message,
            }

    asyncio.run(scenario())


@pytest.mark.root  # makes a device that is always full
@pytest.mark.parametrize("high_assurance", [True, False])
def test_without_an_audit_log_high_assurance_starts_nothing(manager, high_assurance):
    """A file system that is full, for the manager: nothing can be appended."""

    async def scenario():
        relay = ScriptedRelay("link-token")
        async with relay.serving():
            write_site(manager.etc, relay.url)
            with (manager.etc / "config.yaml").open("a") as file:
                file.write(f"high_assurance: {str(high_assurance).lower()}\n")
            (manager.top / "log/events.jsonl").symlink_to("/dev/full")
            await manager.start()
            status, errors = await manager.ended()
            assert status == 1, "a link is not followed"
            assert "events.jsonl" in errors
            (manager.top / "log/events.jsonl").unlink()
            os.mknod(manager.top / "log/events.jsonl", 0o600 | stat.S_IFCHR, os.makedev(1, 7))
            await manager.start()
            async with ScriptedWarden(manager.warden_socket, "boot", []).serving() as warden:
                await relay.next(wire.ManagerHello)
                while await relay.next(wire.WardenUp | wire.WardenDown) == wire.WardenDown():
                    pass
                await relay.say(START)
                if high_assurance:
                    refused = await relay.next(wire.Refused)
                    assert (refused.nonce, refused.code) == ("n1", "START_FAILED")
                    assert "audit log" in refused.message
                else:
                    assert isinstance(await warden.asked(), root.Start)
                await manager.stop()

    asyncio.run(scenario())
