"""`mep configure --domain`: who is let in by the mapping that it writes, and who is not."""

import pytest

from mep.callout.mapping import compile_text, explain
from mep.cli import domain
from mep.cli.errors import CliError

PROVIDER = "3f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10"


def mapped(username: str, provider: str = PROVIDER, named: str = "example.edu") -> str | None:
    person = {
        "id": "1",
        "status": "used",
        "username": username,
        "identity_provider": provider,
    }
    rules = compile_text(domain.mapping(named, PROVIDER))
    found = explain(rules, [person], lambda *_: [])
    return next((one.output for one in found if one.output), None)


def test_names_of_the_domain_are_accounts():
    assert mapped("alice@example.edu") == "alice"
    assert mapped("alice@EXAMPLE.edu") == "alice"
    assert mapped("alice@example.edu", PROVIDER.upper()) == "alice"
    assert mapped("alice@cs.example.edu", named="CS.example.edu.") == "alice"


@pytest.mark.parametrize(
    "username",
    [
        "alice@example.edu.evil.com",
        "alice@exampleXedu",
        "alice@example-edu",
        "alice@notexample.edu",
        "alice@sub.example.edu",
        "alice@example.edu ",
        " alice@example.edu\n",
        "alice@example.edu.",
        "alice@\N{CYRILLIC SMALL LETTER IE}xample.edu",
        "alice@example\N{IDEOGRAPHIC FULL STOP}edu",
        "alice@example\N{FULLWIDTH FULL STOP}edu",
        "alice@ex\N{ZERO WIDTH SPACE}ample.edu",
        "alice@example.ed\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "alice@exampl\N{KELVIN SIGN}.edu",
        "example.edu",
        "@example.edu",
        "",
    ],
)
def test_look_alikes_are_nobody(username):
    assert mapped(username) is None


def test_the_kelvin_sign_is_no_k():
    assert mapped("alice@lake.edu", named="lake.edu") == "alice"
    assert mapped("alice@la\N{KELVIN SIGN}e.edu", named="lake.edu") is None


@pytest.mark.parametrize(
    ("username", "provider"),
    [
        ("alice@example.edu", "00000000-0000-0000-0000-000000000000"),
        ("alice@example.edu", ""),
        (f"{PROVIDER} alice@example.edu", "x"),
        ("alice@example.edu", f"x {PROVIDER}"),
    ],
)
def test_another_provider_has_no_word_on_it(username, provider):
    assert mapped(username, provider) is None


@pytest.mark.parametrize(
    "name",
    ["", "edu", "example..edu", ".example.edu", "-x.edu", "x-.edu", "exämple.edu", "a b.edu",
     "x.edu|y.edu", "x.edu\n", "*.edu", "x.edu/", f"{'a' * 64}.edu", "a." * 130 + "edu"],
)  # fmt: skip
def test_what_is_no_domain(name):
    with pytest.raises(CliError, match="no domain"):
        domain.mapping(name, PROVIDER)


def test_what_is_no_provider():
    with pytest.raises(CliError, match="no UUID"):
        domain.mapping("example.edu", "my university")
