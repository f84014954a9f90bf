"""``ldap_identity_mapping#1.0.0`` against a real slapd, as the program that sites run."""

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testbed.slapd import BASE, BIND_DN, PASSWORD, Directory, free_port

import mep
from mep.callout import external
from mep.callout.errors import ExternalError
from mep.callout.mapping import External

PROVIDER = "3f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10"
ENDPOINT = "6f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10"
PROGRAM = Path(mep.__file__).parent / "callout/directory/__main__.py"


@pytest.fixture
def site(slapd: Directory, tmp_path: Path):
    """A site's document, with what a test changes."""
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o400)

    def document(**changes: Any) -> dict[str, Any]:
        whole = {
            "DATA_TYPE": "ldap_identity_mapping#1.0.0",
            "servers": [slapd.ldap],
            "bind_dn": BIND_DN,
            "password_file": str(password),
            "base": BASE,
            "filter": "(mail={username})",
            "account": "uid",
            "identity_providers": [PROVIDER],
            "cache_dir": str(tmp_path),
            "cache_s": 0,
            "negative_cache_s": 0,
        } | changes
        return {key: value for key, value in whole.items() if value is not None}

    return document


def person(username: str, provider: str = PROVIDER) -> dict[str, str]:
    return {"id": username, "status": "used", "username": username, "identity_provider": provider}


def ask(document: dict[str, Any], *people: dict[str, str]) -> list[tuple[str, str]]:
    asked = External("$", "", [], document)
    return [(one.output, one.why) for one in external.run(ENDPOINT, asked, list(people))]


def account(document: dict[str, Any], username: str) -> str:
    return ask(document, person(username))[0][0]


@pytest.mark.parametrize("way", ["ldap", "ldaps", "ldapi", "start_tls"])
def test_every_way_to_a_server(slapd, site, way) -> None:
    servers = [slapd.ldap if way == "start_tls" else getattr(slapd, way)]
    document = site(servers=servers, start_tls=way == "start_tls", ca_file=str(slapd.ca_file))
    people = [person(name) for name in ("alice@uni.test", "carol@uni.test", "bob@uni.test")]
    accounts = [output for output, _ in ask(document, *people)]
    assert accounts == ["alice", "", "bob"]


def test_why_is_told(site) -> None:
    people = [
        person("alice@uni.test"),
        person("carol@uni.test"),
        person("alice@uni.test", "another provider"),
        {"id": "4", "status": "used", "identity_provider": PROVIDER},
    ]
    assert ask(site(), *people) == [
        ("alice", "the directory has an entry for it"),
        ("", "the directory has no entry for it"),
        ("", "is of none of the pinned identity providers"),
        ("", "has no username"),
    ]


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ldap://127.0.0.1:{listener.getsockname()[1]}"


def test_a_dead_or_silent_first_server_gives_way(slapd, site, silent) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    assert account(site(servers=[dead, slapd.ldap]), "alice@uni.test") == "alice"
    assert account(site(servers=[silent, slapd.ldap]), "alice@uni.test") == "alice"
    with pytest.raises(ExternalError, match=r"no server answers: .*127\.0\.0\.1.*127\.0\.0\.1"):
        ask(site(servers=[dead, silent], timeout_s=0.3), person("alice@uni.test"))


def test_a_server_of_another_authority_is_not_believed(slapd, site, tmp_path) -> None:
    other = tmp_path / "other.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-keyout", "/dev/null", "-out", str(other)),
        ],
        check=True,
        capture_output=True,
    )
    for changes in ({"servers": [slapd.ldaps]}, {"start_tls": True}):
        with pytest.raises(ExternalError, match="no server answers"):
            ask(site(ca_file=str(other), **changes), person("alice@uni.test"))
    with pytest.raises(ExternalError, match="cannot be read"):
        nowhere = str(tmp_path / "nowhere")
        ask(site(ca_file=nowhere, start_tls=True), person("alice@uni.test"))


def test_a_server_by_another_name_is_not_believed(slapd, site) -> None:
    elsewhere = slapd.ldaps.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(ExternalError, match="no server answers"):
        ask(site(servers=[elsewhere], ca_file=str(slapd.ca_file)), person("alice@uni.test"))


def test_a_wrong_password_refuses_and_is_not_told(slapd, site, tmp_path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("hunter2")
    wrong.chmod(0o400)
    with pytest.raises(ExternalError, match="Invalid credentials") as caught:
        ask(site(password_file=str(wrong)), person("alice@uni.test"))
    assert "hunter2" not in str(caught.value)


def test_without_credentials_this_server_shows_nobody(site) -> None:
    anonymous = site(bind_dn=None, password_file=None)
    with pytest.raises(ExternalError, match="Insufficient access"):
        ask(anonymous, person("alice@uni.test"))


@pytest.mark.parametrize("mode", [0o444, 0o440, 0o402, 0o600])
def test_the_password_file_is_for_nobody_else(site, tmp_path, mode) -> None:
    file = tmp_path / "another"
    file.write_text(PASSWORD)
    file.chmod(mode)
    # Its group is ours, so that 0440 shows it to nobody else.
    good = mode in (0o600, 0o440)
    document = site(password_file=str(file))
    if good:
        assert account(document, "alice@uni.test") == "alice"
        return
    with pytest.raises(ExternalError, match="open to others"):
        account(document, "alice@uni.test")


def test_a_password_file_that_is_none(site, tmp_path) -> None:
    link, empty = tmp_path / "link", tmp_path / "empty"
    link.symlink_to(tmp_path / "password")
    empty.write_text("\n")
    empty.chmod(0o400)
    for path, words in ((link, "Too many levels"), (empty, "is empty"), (tmp_path, "no regular")):
        with pytest.raises(ExternalError, match=words):
            account(site(password_file=str(path)), "alice@uni.test")


@pytest.mark.parametrize(
    ("username", "words"),
    [
        ("twin@uni.test", "more than one entry|many entries"),
        ("mixed@uni.test", "has 2 values of uid, not one"),
        ("empty@uni.test", "has 0 values of uid, not one"),
        ("strange@uni.test", "no account"),
    ],
)
def test_who_cannot_be_told_apart_is_refused(site, username, words) -> None:
    with pytest.raises(ExternalError, match=words):
        ask(site(), person(username))


@pytest.mark.parametrize(
    "username",
    [
        "*",
        "al*",
        "alice@uni.test)(uid=*",
        "*)(uid=*))(|(uid=*",
        "x)(|(mail=*)",
        "alice@uni.test\\2a",
        "\\2a",
        "alice@uni.test\\00",
        ")",
        "(",
        "&",
    ],
)
def test_no_name_is_a_filter(site, username) -> None:
    assert account(site(), username) == ""
    assert account(site(filter="(&(objectClass=person)(|(mail={username})))"), username) == ""


def test_special_characters_are_what_they_are(site) -> None:
    assert account(site(), "st*r(x)@uni.test") == "star"


@pytest.mark.parametrize(
    "username",
    [
        "alice@uni.test ",
        "alice @uni.test",
        "alice@uni.test\n",
        "alice@uni.test\0",
        "\N{FULLWIDTH LATIN SMALL LETTER A}lice@uni.test",
        "\N{CYRILLIC SMALL LETTER A}lice@uni.test",
        "al\N{SOFT HYPHEN}ice@uni.test",
        "a" * 300,
    ],
)
def test_what_a_directory_would_compare_loosely_is_not_asked_for(site, username) -> None:
    output, why = ask(site(), person(username))[0]
    assert output == ""
    assert "not plain ASCII" in why


def test_a_filter_that_is_none_is_said(site) -> None:
    with pytest.raises(ExternalError, match=r"search .*filter"):
        account(site(filter="((mail={username})"), "alice@uni.test")


def test_answers_are_remembered_for_a_while(site, tmp_path) -> None:
    store = tmp_path / "cache"
    store.mkdir(mode=0o700)
    document = site(cache_dir=str(store), cache_s=300, negative_cache_s=300)
    assert account(document, "alice@uni.test") == "alice"
    assert account(document, "carol@uni.test") == ""
    files = list(store.iterdir())
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    assert len(files) == 2
    people = person("alice@uni.test"), person("carol@uni.test")
    assert ask(document, *people) == [
        ("alice", "the cache has an entry for it"),
        ("", "the cache has no entry for it"),
    ]
    another = document | {"filter": "(|(mail={username})(cn={username}))"}
    assert ask(another, people[0]) == [("alice", "the directory has an entry for it")]
    # Not a day older, not of tomorrow, and not what somebody has damaged.
    for damage in ('[0, "bob"]', '[99999999999, "bob"]', "[", '{"a": 1}', "[1, 2]", ""):
        for file in files:
            file.write_text(damage)
        assert ask(document, people[0]) == [("alice", "the directory has an entry for it")]


def test_a_cache_that_others_can_write_is_not_believed(site, tmp_path) -> None:
    store = tmp_path / "cache"
    store.mkdir()
    document = site(cache_dir=str(store), cache_s=300)
    account(document, "alice@uni.test")
    store.chmod(0o777)
    assert ask(document, person("alice@uni.test"))[0][1] == "the directory has an entry for it"
    link = tmp_path / "link"
    store.chmod(0o700)
    link.symlink_to(store)
    linked = document | {"cache_dir": str(link)}
    assert ask(linked, person("alice@uni.test"))[0][1] == "the directory has an entry for it"
    assert len(list(store.iterdir())) == 1


def test_as_the_command_of_other_software(site, tmp_path) -> None:
    """What Globus Connect Server or Globus Compute would run: a file, and options of theirs."""
    file = tmp_path / "ldap.json"
    file.write_text(json.dumps(site()))
    people = [person("alice@uni.test"), person("carol@uni.test")]
    question = {"DATA_TYPE": "identity_mapping_input#1.0.0", "identities": people}

    def run(path: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-I", PROGRAM, path, "-c", ENDPOINT, "-s", ENDPOINT, "-a"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            check=False,
            env={},
        )

    done = run(file)
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {
            "DATA_TYPE": "identity_mapping_output#1.0.0",
            "result": [{"id": "alice@uni.test", "output": "alice"}],
        },
    )
    file.write_text("{}")
    for path in (file, tmp_path / "nowhere"):
        done = run(path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("mep-ldap-mapping: ")
        assert "Traceback" not in done.stderr
    command = External("$", "", [sys.executable, "-I", str(PROGRAM), str(tmp_path / "nowhere")])
    with pytest.raises(ExternalError, match="No such file"):
        external.run(ENDPOINT, command, people)


def test_an_administrators_ldap_conf_does_not_say_what_is_trusted(slapd, site, tmp_path) -> None:
    """A `TLS_REQCERT never` of a home directory would switch the check off."""
    (tmp_path / ".ldaprc").write_text("TLS_REQCERT never\n")
    file = tmp_path / "ldap.json"
    file.write_text(json.dumps(site(servers=[slapd.ldaps])))
    question = {"identities": [person("alice@uni.test")]}
    done = subprocess.run(
        [sys.executable, "-I", PROGRAM, file],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "LDAPTLS_REQCERT": "never"},
    )
    assert done.returncode == 1
    assert "no server answers" in done.stderr
