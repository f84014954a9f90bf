"""Between relay and warden: every order of events, without a socket."""

import hashlib
import uuid

import pytest

from mep.manager.broker import KEPT, Broker, UserEndpoint
from mep.root import messages as root
from mep.wire import codes
from mep.wire import to_manager as wire

A, B = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
GRANT = b'{"v":1}'
DIGEST = hashlib.sha256(GRANT).hexdigest()


def start(name=A, nonce="n1", grant=GRANT, signature=b"s" * 32, options=b"{}"):
    return wire.Start(name, nonce, grant, signature, options, b"{}")


@pytest.fixture
def broker():
    """Both peers are there, and nothing waits."""
    made = Broker()
    made.warden_up(root.Running("boot", []), 0.0)
    made.relay_up()
    drain(made)
    return made


def drain(broker):
    sent = list(broker.to_relay)
    broker.to_relay.clear()
    return sent


def refused(name="", nonce="", packet=DIGEST, code=codes.GRANT_REFUSED):
    return root.Refused(name, nonce, packet, code, "no", "ref")


def test_a_start_reaches_the_warden_as_its_exact_bytes(broker):
    broker.from_relay(start())
    assert root.parse_request(broker.to_warden.popleft()) == root.Start(
        GRANT, b"s" * 32, b"{}", b"{}"
    )


def test_a_stop_reaches_the_warden(broker):
    broker.from_relay(wire.Stop(A))
    assert root.parse_request(broker.to_warden.popleft()) == root.Stop(A)


@pytest.mark.parametrize("name", ["", "x" * 36, "é" * 36, A + A])
def test_a_stop_of_something_else_is_dropped(broker, name):
    broker.from_relay(wire.Stop(name))
    assert not broker.to_warden


def test_started_is_told_and_remembered(broker):
    broker.from_warden(root.Started(A, "alice", 7), 5.0)
    assert drain(broker) == [wire.Started(A, "alice", 7)]
    assert broker.running == {A: UserEndpoint("alice", 7, 5.0)}


def test_started_again_keeps_its_age(broker):
    broker.from_warden(root.Started(A, "alice", 7), 5.0)
    broker.from_warden(root.Started(A, "alice", 7), 9.0)
    assert broker.running[A].since == 5.0
    broker.from_warden(root.Started(A, "alice", 8), 11.0)
    assert broker.running[A] == UserEndpoint("alice", 8, 11.0)


def test_a_refusal_that_believes_nothing_is_matched_by_the_packet(broker):
    broker.from_relay(start())
    broker.from_warden(refused(), 0.0)
    assert drain(broker) == [wire.Refused(A, "n1", codes.GRANT_REFUSED, "no", "ref")]


def test_a_refusal_with_names_needs_no_match(broker):
    broker.from_warden(refused(A, "n1", code=codes.ACCOUNT_REFUSED), 0.0)
    assert drain(broker) == [wire.Refused(A, "n1", codes.ACCOUNT_REFUSED, "no", "ref")]


def test_a_refusal_of_what_nobody_asked_is_dropped(broker):
    broker.from_warden(refused(), 0.0)
    assert drain(broker) == []


def test_each_refusal_is_matched_once(broker):
    broker.from_relay(start())
    broker.from_warden(refused(), 0.0)
    broker.from_warden(refused(), 0.0)
    assert len(drain(broker)) == 1


def test_exits_and_refusals_wait_for_the_relay_behind_the_wardens_state(broker):
    broker.from_relay(start(B, grant=b"g2"))
    broker.from_warden(root.Started(A, "alice", 7), 0.0)
    drain(broker)
    broker.relay_down()
    broker.from_warden(root.Exited(A, "n", 0, None, "", ""), 1.0)
    broker.from_warden(refused(packet=hashlib.sha256(b"g2").hexdigest()), 1.0)
    broker.relay_up()
    assert drain(broker) == [
        wire.WardenUp("boot", ()),
        wire.Exited(A, "n", 0, None, "", ""),
        wire.Refused(B, "n1", codes.GRANT_REFUSED, "no", "ref"),
    ]


def test_what_was_only_true_then_does_not_wait(broker):
    broker.from_warden(root.Started(A, "alice", 7), 0.0)
    broker.heartbeat(1.0)
    broker.relay_down()
    broker.heartbeat(2.0)
    broker.from_warden(root.Started(B, "bob", 8), 0.0)
    broker.relay_up()
    assert drain(broker) == [wire.WardenUp("boot", (A, B))]


def test_an_unsent_exit_goes_first_again_and_an_unsent_heartbeat_is_gone(broker):
    exited = wire.Exited(A, "n", 0, None, "", "")
    broker.relay_down()
    broker.unsent(exited)
    broker.unsent(wire.Status(0, 1.0))
    broker.relay_up()
    assert drain(broker) == [wire.WardenUp("boot", ()), exited]


def test_what_waits_is_bounded(broker):
    broker.relay_down()
    for number in range(KEPT + 5):
        broker.from_warden(root.Exited(A, str(number), 0, None, "", ""), 0.0)
    assert len(broker.to_relay) == KEPT
    assert broker.to_relay[-1].nonce == str(KEPT + 4)


def test_the_warden_goes_and_comes_with_another_boot_id(broker):
    broker.from_relay(start())
    broker.from_warden(root.Started(B, "bob", 8), 3.0)
    drain(broker)
    broker.warden_down()
    assert not broker.to_warden
    assert drain(broker) == [wire.WardenDown()]
    broker.from_relay(start())
    assert not broker.to_warden, "its grant names a warden that is gone"
    broker.warden_up(root.Running("boot2", [B]), 9.0)
    assert drain(broker) == [wire.WardenUp("boot2", (B,))]
    assert broker.running == {B: UserEndpoint("bob", 8, 3.0)}


def test_user_endpoints_of_before_are_forgotten_when_the_warden_does_not_name_them():
    broker = Broker(running={A: UserEndpoint("alice", 7, 1.0), B: UserEndpoint("bob", 8, 1.0)})
    broker.warden_up(root.Running("boot", [B]), 2.0)
    assert list(broker.running) == [B]


def test_the_relay_hears_at_once_that_there_is_no_warden():
    broker = Broker()
    broker.relay_up()
    assert drain(broker) == [wire.WardenDown()]


def test_a_start_too_large_for_a_packet_is_refused_here(broker):
    broker.from_relay(start(options=b"x" * root.MAX_PACKET))
    assert not broker.to_warden
    (answer,) = drain(broker)
    assert (answer.user_endpoint_id, answer.nonce, answer.code) == (A, "n1", codes.START_FAILED)


def test_a_signature_of_a_wrong_length_is_refused_here(broker):
    broker.from_relay(start(signature=b"short"))
    assert not broker.to_warden
    assert drain(broker)[0].code == codes.GRANT_REFUSED
