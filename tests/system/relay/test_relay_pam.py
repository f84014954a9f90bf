"""The site's own accounts on the login page, by real PAM stacks."""

import asyncio
import json
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from identity_relay import holder, relay_with
from mep_cloud.errors import HomeError, NoAnswer
from mep_cloud.identity import pam_child
from mep_cloud.identity.pam import PamAccounts
from mep_cloud.identity.settings import Pam
from relay_driver import BOUND_S, relay_cli, run_cli
from test_relay_login import PASSWORD, Browser, ask, begin
from test_relay_policies import policy, submits
from testbed.pam import MODULE, Stacks

pytestmark = [
    pytest.mark.root,  # writes services to /etc/pam.d
    pytest.mark.skipif(
        not list(Path("/lib").glob(f"*/security/{MODULE}"))
        and not Path(f"/lib/security/{MODULE}").exists(),
        reason="needs libpam-pwdfile",
    ),
]
SECRET = "a pass: word % ü"


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    made = Stacks(tmp_path_factory.mktemp("pam"))
    for name in ("paula", "pete", "root", "daemon"):
        made.add(name, SECRET)
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("relay") / "data"
    tables = {"pam": {"service": stacks.directory(), "domain": "site.example"}}
    with relay_with(data, tables, {}) as running:
        yield running


@pytest.fixture
def browser(site: Any) -> Iterator[Browser]:
    made = Browser(site.url)
    yield made
    made.session.close()


def sign_in(browser: Browser, name: str, password: str, path: str = "/login") -> Any:
    return browser.post("/login", browser.get(path).text, username=name, password=password)


def test_a_terminal_logs_in_with_an_account_of_the_site(site: Any, browser: Browser) -> None:
    begun = begin(site)
    page = sign_in(browser, "paula", SECRET, f"/login?user_code={begun['user_code']}")
    assert "paula@site.example" in page.text
    browser.post("/device", page.text, user_code=begun["user_code"], answer="approve")
    token = ask(site, begun).json()["access_token"]
    with holder(site.url, token) as paula:
        (record,) = paula.ok("GET", "/v3/whoami")["identity_set"]
        assert record["username"] == "paula@site.example"
        assert record["sub"] == "paula"
        assert record["identity_provider_display_name"] == "Site accounts"
        (own,) = site.bob.ok("GET", "/v3/whoami")["identity_set"]
        assert record["identity_provider"] != own["identity_provider"]
        recent = policy(site, "--session-s", 3600, "--provider", record["identity_provider"])
        endpoint = site.admin.endpoint(authentication_policy=recent)["endpoint_id"]
        assert submits(paula, endpoint) == (200, "")


def test_who_is_let_in(site: Any, browser: Browser, stacks: Stacks) -> None:
    asked = {
        ("paula@site.example", SECRET): 200,
        ("PAULA@Site.Example", SECRET): 200,
        ("paula", SECRET[:-1]): 401,
        ("paula", ""): 401,
        ("nobody-knows", SECRET): 401,
        ("root", SECRET): 401,  # the stack would let it in
        ("daemon", SECRET): 401,
        ("paula@other.example", SECRET): 401,
        ("paula@relay.local", SECRET): 401,
        ("../paula", SECRET): 401,
        ("-paula", SECRET): 401,
    }
    got = {question: sign_in(browser, *question).status_code for question in asked}
    assert got == asked
    stacks.expired.write_text("pete\n")
    assert sign_in(browser, "pete", SECRET).status_code == 401
    stacks.expired.write_text("")
    assert sign_in(browser, "pete", SECRET).status_code == 200


def test_the_relay_s_own_people_sign_in_by_their_whole_name(site: Any, browser: Browser) -> None:
    data = site.relay.data
    relay_cli("user", "add", "paula", "--data", data)
    run_cli("user", "password", "paula", "--data", data, stdin=PASSWORD + "\n")
    assert "paula@relay.local" in sign_in(browser, "paula@relay.local", PASSWORD).text
    assert sign_in(browser, "paula", PASSWORD).status_code == 401
    assert "NAME@relay.local" in browser.get("/login").text


def test_passwords_of_the_site_are_not_guessed(site: Any, browser: Browser) -> None:
    names = ["gus", "GUS", "gus@site.example", "Gus@SITE.example"] * 3
    answers = [sign_in(browser, name, "wrong").status_code for name in names]
    assert answers == [401] * 10 + [429] * 2


def asked(service: str, name: str = "paula", password: str = SECRET, **fields: Any) -> Any:
    declared = Pam(service=service, domain="site.example", **fields)
    accounts = PamAccounts(declared, "relay")

    async def main() -> Any:
        async with asyncio.timeout(60):
            return await accounts.person(name, password)

    accounts.check()
    return asyncio.run(main())


def test_a_stack_that_hangs_is_given_up_with_all_that_it_started(
    stacks: Stacks, tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    script = tmp_path / "hang"
    script.write_text(f"#!/bin/sh\necho $$ >{mark}.new\nmv {mark}.new {mark}\nexec sleep 600\n")
    script.chmod(0o755)
    hanging = stacks.write(f"auth required pam_exec.so {script}", "account required pam_permit.so")
    with pytest.raises(NoAnswer):
        asked(hanging, timeout_s=10.0)
    assert is_gone(int(mark.read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or does so within a while; whoever reaps it may be slow."""
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_stack_that_is_broken_is_no_word_on_the_password(stacks: Stacks) -> None:
    broken = stacks.write(
        "auth required pam_debug.so auth=authinfo_unavail", "account required pam_permit.so"
    )
    with pytest.raises(NoAnswer):
        asked(broken)
    missing = stacks.write("auth required pam_no_such.so", "account required pam_permit.so")
    assert asked(missing) is None, "PAM calls that a refusal"


def test_a_service_that_would_fall_back_to_other_is_refused(stacks: Stacks) -> None:
    half = stacks.write(f"auth required {MODULE} pwdfile={stacks.accounts}")
    with pytest.raises(HomeError, match="no line for account"):
        asked(half)
    half = stacks.write("# auth", "account required pam_permit.so")
    with pytest.raises(HomeError, match="no line for auth"):
        asked(half)
    with pytest.raises(HomeError, match="fall back"):
        asked("mep-no-such-service")


def child(service: str, name: str, password: str, account: pwd.struct_passwd) -> int:
    """What the process that asks says, run by an account without privileges."""
    question = {"service": service, "name": name, "password": password, "min_uid": 1000}
    done = subprocess.run(
        [sys.executable, "-I", "-m", pam_child.__name__],
        input=json.dumps(question) + "\n",
        text=True,
        timeout=60,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
    )
    return done.returncode


def test_what_an_unprivileged_relay_can_use(
    stacks: Stacks, new_account: Callable[..., pwd.struct_passwd]
) -> None:
    """A directory, yes; pam_unix, for others than oneself, no, as docs/relay.md says."""
    relay, person = new_account("relay"), new_account("person")
    accounts = Path(person.pw_dir) / "accounts"
    Path(person.pw_dir).chmod(0o755)
    accounts.write_text(stacks.accounts.read_text())
    service = stacks.write(
        f"auth required {MODULE} pwdfile={accounts} nodelay", "account required pam_permit.so"
    )
    assert child(service, "paula", SECRET, relay) == pam_child.GOOD
    assert child(service, "paula", "wrong", relay) == pam_child.WRONG
    assert child(service, "daemon", SECRET, relay) == pam_child.WRONG
    login = f"{person.pw_name}:{SECRET}"
    subprocess.run(["chpasswd"], input=login, text=True, check=True)
    unix = stacks.write("auth required pam_unix.so nodelay", "account required pam_permit.so")
    assert child(unix, person.pw_name, SECRET, pwd.getpwuid(0)) == pam_child.GOOD
    assert child(unix, person.pw_name, SECRET, relay) != pam_child.GOOD
