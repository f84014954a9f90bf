"""Between relay and warden: every order of events, without a socket."""

import hashlib
import uuid

import pytest

from mep.manager.broker import KEPT, Broker, UserEndpoint
from mep.manager.packets import Exited, Refused, Running, Started
from mep.manager.sentences import SENTENCES
from mep.manager.sentences import refused as sentence
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
    made.warden_up(Running("boot", []), 0.0)
    made.relay_up()
    drain(made)
    return made


def drain(broker):
    sent = list(broker.to_relay)
    broker.to_relay.clear()
    return sent


def refused(name="", packet=DIGEST, code=codes.GRANT_REFUSED):
    return Refused(name, packet, code, "ref")


def told(name, nonce, code=codes.GRANT_REFUSED):
    return wire.Refused(name, nonce, code, sentence(code, "ref"), "ref")


def test_a_start_reaches_the_warden_as_its_exact_bytes(broker):
    broker.from_relay(start(), 0.0)
    assert root.parse_request(broker.to_warden.popleft()) == root.Start(
        GRANT, b"s" * 32, b"{}", b"{}"
    )


def test_a_stop_reaches_the_warden(broker):
    broker.from_relay(wire.Stop(A), 0.0)
    assert root.parse_request(broker.to_warden.popleft()) == root.Stop(A)


@pytest.mark.parametrize("name", ["", "x" * 36, "é" * 36, A + A])
def test_a_stop_of_something_else_is_dropped(broker, name):
    broker.from_relay(wire.Stop(name), 0.0)
    assert not broker.to_warden


def test_started_is_told_and_remembered(broker):
    broker.from_warden(Started(A, "alice", 7), 5.0)
    assert drain(broker) == [wire.Started(A, "alice", 7)]
    assert broker.running == {A: UserEndpoint("alice", 7, 5.0)}


def test_started_again_keeps_its_age(broker):
    broker.from_warden(Started(A, "alice", 7), 5.0)
    broker.from_warden(Started(A, "alice", 7), 9.0)
    assert broker.running[A].since == 5.0
    broker.from_warden(Started(A, "alice", 8), 11.0)
    assert broker.running[A] == UserEndpoint("alice", 8, 11.0)


def test_a_refusal_that_believes_nothing_is_matched_by_the_packet(broker):
    broker.from_relay(start(), 0.0)
    broker.from_relay(start(nonce="n2", grant=b"g2"), 0.0)
    broker.from_warden(refused(), 0.0)
    assert drain(broker) == [told(A, "n1")]


def test_a_refusal_of_a_decision_answers_all_who_wait_for_it(broker):
    """Root decides about the first, and says nothing to those who come meanwhile."""
    broker.from_relay(start(), 0.0)
    broker.from_relay(start(nonce="n2", grant=b"g2"), 0.0)
    broker.from_relay(start(B, nonce="n3", grant=b"g3"), 0.0)
    broker.from_warden(refused(A, code=codes.ACCOUNT_REFUSED), 0.0)
    assert drain(broker) == [told(A, n, codes.ACCOUNT_REFUSED) for n in ("n1", "n2")]


def test_a_refusal_is_answered_across_a_lost_connection_to_the_same_warden(broker):
    broker.from_relay(start(), 0.0)
    broker.warden_down()
    broker.warden_up(Running("boot", []), 1.0)
    drain(broker)
    broker.from_warden(refused(A, code=codes.ACCOUNT_REFUSED), 2.0)
    assert drain(broker) == [told(A, "n1", codes.ACCOUNT_REFUSED)]


def test_every_refusal_of_root_has_a_sentence():
    for code, words in SENTENCES.items():
        assert getattr(codes, code) == code
        assert words.endswith(".")
    assert "see your system administrator" in SENTENCES[codes.ACCOUNT_REFUSED]


def test_an_exit_answers_the_newest_start(broker):
    broker.from_relay(start(), 0.0)
    broker.from_warden(Started(A, "alice", 7), 0.0)
    broker.from_relay(start(nonce="n2", grant=b"g2"), 0.0)
    drain(broker)
    broker.from_warden(Exited(A, -9, '{"code": "X", "message": "a\\u001b[2J"}'), 40.0)
    assert drain(broker) == [wire.Exited(A, "n2", None, 9, "X", "a\ufffd[2J")]


def test_an_end_without_a_beginning_is_a_start_that_failed(broker):
    broker.from_relay(start(), 0.0)
    broker.from_warden(Exited(A, None, ""), 40.0)
    words = SENTENCES[codes.START_FAILED]
    assert drain(broker) == [wire.Exited(A, "n1", None, None, codes.START_FAILED, words)]


def test_what_keeps_ending_at_its_start_is_left_alone_for_a_while(broker):
    for count in range(3):
        broker.from_relay(start(nonce=f"n{count}", grant=b"g%d" % count), 1.0 + count)
        broker.from_warden(Started(A, "alice", 7), 1.0 + count)
        broker.from_warden(Exited(A, 1, ""), 1.5 + count)
    drain(broker)
    broker.to_warden.clear()
    broker.from_relay(start(), 4.0)
    broker.from_relay(start(B), 4.0)
    (answer,) = drain(broker)
    assert (answer.user_endpoint_id, answer.code) == (A, codes.START_LIMIT)
    assert "keeps ending" in answer.message
    assert len(broker.to_warden) == 1
    broker.from_relay(start(), 14.0)
    assert len(broker.to_warden) == 2


def test_a_refusal_of_what_nobody_asked_is_dropped(broker):
    broker.from_warden(refused(), 0.0)
    assert drain(broker) == []


def test_each_refusal_is_matched_once(broker):
    broker.from_relay(start(), 0.0)
    broker.from_warden(refused(), 0.0)
    broker.from_warden(refused(), 0.0)
    assert len(drain(broker)) == 1


def test_exits_and_refusals_wait_for_the_relay_behind_the_wardens_state(broker):
    broker.from_relay(start(B, grant=b"g2"), 0.0)
    broker.from_warden(Started(A, "alice", 7), 0.0)
    drain(broker)
    broker.relay_down()
    broker.from_warden(Exited(A, 0, ""), 1.0)
    broker.from_warden(refused(packet=hashlib.sha256(b"g2").hexdigest()), 1.0)
    broker.relay_up()
    assert drain(broker) == [
        wire.WardenUp("boot", ()),
        wire.Exited(A, "", 0, None, "", ""),
        told(B, "n1"),
    ]


def test_what_was_only_true_then_does_not_wait(broker):
    broker.from_warden(Started(A, "alice", 7), 0.0)
    broker.heartbeat(1.0)
    broker.relay_down()
    broker.heartbeat(2.0)
    broker.from_warden(Started(B, "bob", 8), 0.0)
    broker.relay_up()
    assert drain(broker) == [wire.WardenUp("boot", (A, B))]


def test_an_unsent_exit_goes_first_again_and_an_unsent_heartbeat_is_gone(broker):
    exited = wire.Exited(A, "", 0, None, "", "")
    broker.relay_down()
    broker.unsent(exited)
    broker.unsent(wire.Status(0, 1.0))
    broker.relay_up()
    assert drain(broker) == [wire.WardenUp("boot", ()), exited]


def test_what_waits_is_bounded(broker):
    broker.relay_down()
    for number in range(KEPT + 5):
        broker.from_warden(Started(A, "alice", 7), 0.0)
        broker.from_warden(Exited(A, number % 100, ""), 0.0)
    assert len(broker.to_relay) == KEPT
    assert broker.to_relay[-1].status == (KEPT + 4) % 100


def test_the_warden_goes_and_comes_with_another_boot_id(broker):
    broker.from_relay(start(), 0.0)
    broker.from_warden(Started(B, "bob", 8), 3.0)
    drain(broker)
    broker.warden_down()
    assert not broker.to_warden
    assert drain(broker) == [wire.WardenDown()]
    broker.from_relay(start(), 0.0)
    assert not broker.to_warden, "its grant names a warden that is gone"
    broker.warden_up(Running("boot2", [B]), 9.0)
    assert drain(broker) == [wire.WardenUp("boot2", (B,))]
    assert broker.running == {B: UserEndpoint("bob", 8, 3.0)}


def test_user_endpoints_of_before_are_forgotten_when_the_warden_does_not_name_them():
    broker = Broker(running={A: UserEndpoint("alice", 7, 1.0), B: UserEndpoint("bob", 8, 1.0)})
    broker.warden_up(Running("boot", [B]), 2.0)
    assert list(broker.running) == [B]


def test_the_relay_hears_at_once_that_there_is_no_warden():
    broker = Broker()
    broker.relay_up()
    assert drain(broker) == [wire.WardenDown()]


def test_a_start_too_large_for_a_packet_is_refused_here(broker):
    broker.from_relay(start(options=b"x" * root.MAX_PACKET), 0.0)
    assert not broker.to_warden
    (answer,) = drain(broker)
    assert (answer.user_endpoint_id, answer.nonce, answer.code) == (A, "n1", codes.START_FAILED)


def test_a_signature_of_a_wrong_length_is_refused_here(broker):
    broker.from_relay(start(signature=b"short"), 0.0)
    assert not broker.to_warden
    assert drain(broker)[0].code == codes.GRANT_REFUSED
