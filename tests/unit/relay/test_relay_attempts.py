"""Bounds on tries, and passwords."""

import asyncio

import pytest
from mep_cloud import passwords
from mep_cloud.attempts import Attempts, origin


def test_so_many_in_a_period() -> None:
    attempts = Attempts(2, 10.0)
    assert [attempts.allow("a", at) for at in (0.0, 1.0, 2.0, 9.9)] == [True, True, False, False]
    assert attempts.allow("b", 2.0)
    assert attempts.allow("a", 10.0)
    assert not attempts.allow("a", 10.5)
    assert attempts.allow("a", 11.0)


def test_the_longest_untried_is_forgotten() -> None:
    attempts = Attempts(1, 10.0, size=2)
    for key in ("a", "b"):
        assert attempts.allow(key, 0.0)
    assert not attempts.allow("a", 1.0)
    assert attempts.allow("c", 1.0)  # b is forgotten, a is not
    assert not attempts.allow("a", 2.0)
    assert attempts.allow("b", 2.0)


def test_passwords() -> None:
    stored = passwords.hashed("zwölf Boxkämpfer")
    assert passwords.hashed("zwölf Boxkämpfer") != stored
    assert "Box" not in stored

    async def checks() -> list[bool]:
        return [
            await passwords.check("zwölf Boxkämpfer", stored),
            await passwords.check("zwölf boxkämpfer", stored),
            await passwords.check("", None),
            await passwords.check("x" * 2000, stored),
        ]

    assert asyncio.run(checks()) == [True, False, False, False]


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_any_text_can_be_tried(text: str) -> None:
    assert not passwords.fits(text, passwords.hashed("something else"))


@pytest.mark.parametrize(
    ("address", "counts_for"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_one_ipv6_host_has_one_count(address: str, counts_for: str) -> None:
    assert origin(address) == counts_for
