"""``mep configure --pam``: the policy that root reads says so."""

import pytest

from mep.cli import examples
from mep.cli.configure import with_pam
from mep.cli.errors import CliError
from mep.root.policy import parse


def test_the_example_without_and_with_pam() -> None:
    example = examples.text("policy.toml")
    assert not parse(example).pam_enable
    changed = parse(with_pam(example, "site-login"))
    assert (changed.pam_enable, changed.pam_service_name) == (True, "site-login")
    before = vars(parse(example)) | {"pam_enable": True, "pam_service_name": "site-login"}
    assert vars(changed) == before


@pytest.mark.parametrize("service", ["", "MEP", "../x", "a b", 'a"', "a\n"])
def test_names_that_pam_does_not_find(service: str) -> None:
    with pytest.raises(CliError, match="lower case"):
        with_pam("", service)
