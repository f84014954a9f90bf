"""What the warden would decide about an identity set: mapping, denials, policy, PAM.

The mapping is asked of the same program, as the same account, as the warden asks it.
"""

import json
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import mep
from mep.cli.errors import CliError
from mep.cli.site import Site

if TYPE_CHECKING:
    from mep.root.policy import Policy

Identity = dict[str, str]

CALLOUT_S: Final = 30.0
_NAMES: Final = ("id", "username")
"""By which a person can be denied."""


@dataclass
class Verdict:
    """What the warden would decide."""

    findings: list[dict[str, Any]] = field(default_factory=list)
    """What each rule said, in order: see :class:`mep.callout.mapping.Finding`. The first with an
    output decides; programs are not asked after it."""
    remarks: list[str] = field(default_factory=list)
    """What the mapping's author hardly meant."""
    identity_id: str | None = None
    account: str | None = None
    pam: str = "off"
    """Or what was asked of it: a session is opened at a start alone, and may be refused then."""
    code: str | None = None
    """Set where it would be refused."""
    message: str = ""
    """What the user would read."""
    detail: str = ""
    """What the audit log would say."""


def decide(place: Site, identities: list[Identity]) -> Verdict:
    """What the warden would decide for this set.

    Raises:
        CliError: mapping or policy cannot be used.
    """
    policy = read_policy(place)
    if not place.privileged:
        verdict = _owner(policy, identities)
        _deny(place, identities, verdict)
        return verdict
    answer = ask(place, policy, mapping_text(place, policy), identities)
    if answer["remarks"] is None:
        raise CliError(f"{place.file(policy.mapping)}: {answer['error']}")
    verdict = Verdict(answer["findings"], answer["remarks"])
    verdict.pam = "not asked" if policy.pam_enable else "off"
    if "error" in answer:
        _refuse(verdict, "START_FAILED", f"identity mapping: {answer['error']}")
    elif not answer["output"]:
        _refuse(verdict, "IDENTITY_NOT_MAPPED", "no rule matches")
    else:
        verdict.identity_id, verdict.account = answer["id"], answer["output"]
        _deny(place, identities, verdict)
        if verdict.code is None:
            _judge(policy, verdict)
        if verdict.code is None and policy.pam_enable:
            _ask_pam(policy.pam_service_name, verdict)
    return verdict


def read_policy(place: Site) -> "Policy":
    """``policy.toml``, as the warden reads it.

    Raises:
        SettingsError: it cannot be used.
    """
    from mep.cli.preparation import root_policy

    return root_policy(place)


def mapping_text(place: Site, policy: "Policy") -> str:
    """The text of the mapping file.

    Raises:
        SettingsError: it cannot be read.
    """
    from mep.manager.config import read_text

    return read_text(place.file(policy.mapping))


def ask(place: Site, policy: "Policy", mapping: str, identities: list[Identity]) -> dict[str, Any]:
    """The process that the warden asks, as the account that it runs as; with explanations.

    Raises:
        CliError: it cannot be run.
    """
    from mep.cli.accounts import manager_account
    from mep.manager.site import PARENT, load_parent

    account = manager_account(policy.callout_user, policy.manager_user)
    known = place.file(PARENT).exists()
    question = {
        "mapping": mapping,
        "endpoint_id": load_parent(place.etc).endpoint_id if known else "not-registered",
        "identities": identities,
        "explain": True,
    }
    program = Path(mep.__file__).parent / "callout" / "__main__.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program)],
        input=json.dumps(question).encode(),
        capture_output=True,
        env={},
        cwd="/",
        timeout=CALLOUT_S,
        check=False,
        start_new_session=True,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
    )
    if done.returncode != 0:
        raise CliError(f"mep.callout failed: {done.stderr.decode(errors='replace').strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _owner(policy: "Policy", identities: list[Identity]) -> Verdict:
    """A single-user endpoint's mapping: the owner is the owner."""
    ids = [one["id"] for one in identities]
    mine = [one for one in ids if one in policy.owner]
    if not mine:
        return Verdict(
            code="IDENTITY_NOT_MAPPED",
            message="This is a single-user endpoint of somebody else.",
            detail=f"owner in policy.toml is {policy.owner}",
        )
    return Verdict(identity_id=mine[0], account=pwd.getpwuid(os.geteuid()).pw_name)


def _deny(place: Site, identities: list[Identity], verdict: Verdict) -> None:
    """``mep deny``: by the account, or by any identity of the set."""
    from mep.cli.deny import entries

    if verdict.account is None:
        return
    words = {verdict.account, *(one.get(key, "") for one in identities for key in _NAMES)}
    if met := {word.casefold() for word in words} & entries(place):
        _refuse(verdict, "ACCOUNT_REFUSED", f"mep deny: {', '.join(sorted(met))}")


def _judge(policy: "Policy", verdict: Verdict) -> None:
    from mep.root.policy import serve
    from mep.root.refusal import Refusal

    assert verdict.account is not None
    try:
        serve(policy, verdict.account)
    except Refusal as refusal:
        _refuse(verdict, refusal.code, refusal.detail)
    except KeyError as error:
        _refuse(verdict, "START_FAILED", f"allow_groups, deny_groups: {error.args[0]}")


def _ask_pam(service: str, verdict: Verdict) -> None:
    from mep.cli.pam import refusal

    assert verdict.account is not None
    words = refusal(service, verdict.account)
    verdict.pam = "account refused" if words else "account accepted, session not asked"
    if words:
        _refuse(verdict, "ACCOUNT_REFUSED", f"PAM service {service}: pam_acct_mgmt: {words}")


def _refuse(verdict: Verdict, code: str, detail: str) -> None:
    from mep.manager.sentences import SENTENCES

    verdict.code, verdict.message, verdict.detail = code, SENTENCES[code], detail
