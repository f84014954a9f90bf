"""What PAM would say of an account, with real accounts and real services."""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mep.cli.errors import CliError
from mep.cli.pam import refusal

pytestmark = pytest.mark.root


@pytest.fixture
def service() -> Iterator[Callable[[str], str]]:
    """Makes a service with these lines."""
    made: list[Path] = []

    def make(text: str) -> str:
        path = Path("/etc/pam.d", f"mep-test-{secrets.token_hex(4)}")
        path.write_text(text)
        made.append(path)
        return path.name

    yield make
    for path in made:
        path.unlink()


def test_accounts_as_pam_sees_them(service, new_account) -> None:
    account = new_account("pam").pw_name
    unix = service("account required pam_unix.so\n")
    assert refusal(unix, account) == ""
    subprocess.run(["chage", "--expiredate", "1", account], check=True)
    assert "expired" in refusal(unix, account)
    assert refusal(service("account required pam_permit.so\n"), account) == ""
    assert "failure" in refusal(service("account required pam_deny.so\n"), account)
    assert refusal(unix, "no-such-account-here")


@pytest.mark.parametrize("name", ["no-such-service-here", "../passwd", "MEP", ""])
def test_a_service_that_is_missing_is_not_another(name) -> None:
    with pytest.raises(CliError, match="there is no file"):
        refusal(name, "root")
