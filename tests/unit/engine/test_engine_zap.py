"""Who is let in: the decision, apart from sockets; and what is noted of those who are not."""

import pytest

from mep.endpoint.interchange.noise import PERIOD_S, Noise
from mep.endpoint.interchange.zap import DOMAIN, Guests, decide

KEY = bytes(range(32))
OTHER = bytes(32)


def request(*credentials, version=b"1.0", domain=DOMAIN, mechanism=b"CURVE"):
    return [version, b"7", domain, b"10.0.0.9", b"", mechanism, *credentials]


@pytest.fixture
def guests():
    made = Guests("CURVE")
    made.admit("3", [KEY])
    return made


def test_the_key_of_a_block_is_let_in_under_the_name_of_the_block(guests):
    verdict = decide(request(KEY), guests)
    assert verdict.block_id == "3"
    assert verdict.reply == (b"1.0", b"7", b"200", b"", b"3", b"")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (request(OTHER), "10.0.0.9: not the key of a block"),
        (request(), "not the key"),
        (request(KEY, KEY), "not the key"),
        (request(KEY[:31]), "not the key"),
        (request(mechanism=b"NULL"), "mechanism b'NULL'"),
        (request(b"3", b"secret", mechanism=b"PLAIN"), "mechanism b'PLAIN'"),
        (request(KEY, mechanism=b"NULL"), "mechanism"),
        (request(KEY, domain=b""), "domain b''"),
        (request(KEY, domain=b"other"), "domain"),
        (request(KEY, version=b"2.0"), "not ZAP 1.0"),
        ([], "not ZAP 1.0"),
        ([b"1.0", b"7"], "not ZAP 1.0"),
    ],
)
def test_everything_else_is_refused(guests, asked, why):
    verdict = decide(asked, guests)
    assert verdict.block_id is None
    assert why in verdict.why
    assert verdict.reply[2] == b"400"
    assert verdict.reply[4] == b""
    assert verdict.reply[1] == (b"7" if asked else b"")


def test_the_key_of_an_ended_block_opens_nothing(guests):
    guests.admit("4", [OTHER])
    guests.forget("3")
    assert decide(request(KEY), guests).block_id is None
    assert decide(request(OTHER), guests).block_id == "4"


def test_passwords_belong_to_their_block():
    guests = Guests("PLAIN")
    guests.admit("3", [b"3", b"three"])
    guests.admit("4", [b"4", b"four"])

    def block_of(*credentials):
        return decide(request(*credentials, mechanism=b"PLAIN"), guests).block_id

    assert block_of(b"3", b"three") == "3"
    assert block_of(b"4", b"four") == "4"
    assert block_of(b"4", b"three") is None
    assert block_of(b"3", b"") is None
    assert decide(request(KEY), guests).block_id is None


def test_noise_is_counted_whole_and_logged_once_a_minute():
    lines = []
    noise = Noise(lines.append)
    for number in range(1000):
        noise.note("garbage", f"number {number}", 100.0 + number * 0.01)
    noise.note("refused", "another kind", 100.0)
    assert lines == ["garbage: 'number 0'", "refused: 'another kind'"]
    noise.note("garbage", "later", 100.0 + PERIOD_S)
    assert lines[2] == "garbage: 'later' (999 more since this was last logged)"
    noise.note("garbage", "later still", 101.0 + PERIOD_S * 2)
    assert lines[3] == "garbage: 'later still'"
    assert noise.count == 1003


def test_what_a_peer_writes_into_the_log_is_short_and_of_one_line():
    lines = []
    Noise(lines.append).note("garbage", "a\nb\x1b[2J" + "x" * 10_000, 0.0)
    assert "\n" not in lines[0]
    assert "\x1b" not in lines[0]
    assert len(lines[0]) < 300
