"""``mep map``: which account an identity becomes, and why."""

import json
import os
import pwd
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

import mep
from mep.cli.errors import DONE, FAILED, CliError
from mep.cli.site import Site, configured_site

if TYPE_CHECKING:
    from mep.root.policy import Policy

Identity = dict[str, str]

CALLOUT_S: Final = 30.0


@dataclass
class Verdict:
    """What the warden would decide."""

    findings: list[dict[str, Any]] = field(default_factory=list)
    """What each rule said, up to the one that decided: see :class:`mep.callout.mapping.Finding`."""
    identity_id: str | None = None
    account: str | None = None
    code: str | None = None
    """Set where it would be refused."""
    message: str = ""
    """What the user would read."""
    detail: str = ""
    """What the audit log would say."""


@click.command
@click.argument("name")
@click.option(
    "--identity",
    metavar="FILE",
    type=click.File("rb"),
    required=True,
    help="JSON: an identity record, a list of them, or what `mep whoami --json` prints.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, identity: IO[bytes], as_json: bool) -> int:
    """Show which account an identity becomes on NAME, by which rule, and what the policy says.

    Rules are shown in order, with why they did or did not match, up to the first that matches: it
    decides. The code is the warden's own. The exit status is 1 when a start would be refused.

    \b
    Examples:
      echo '{"username": "alice@example.org"}' | mep map cluster --identity -
      mep whoami --json | ssh login mep map cluster --identity -
    """
    place = configured_site(name)
    identities = records(identity.read())
    verdict = decide(place, identities)
    if as_json:
        print(json.dumps(asdict(verdict), indent=2))
    else:
        _show(verdict, identities)
    return FAILED if verdict.code else DONE


def records(data: bytes) -> list[Identity]:
    """The identity set in a file. `id` and `status` may be left out: a test needs neither.

    Raises:
        CliError: no JSON, or no records of text.
    """
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise CliError(f"the identity file is not JSON: {error}") from error
    if isinstance(raw, dict):
        raw = raw.get("identity_set", [raw])
    if not isinstance(raw, list) or not raw:
        raise CliError("the identity file must hold one identity record, or a list of them")
    return [_record(number, one) for number, one in enumerate(raw)]


def decide(place: Site, identities: list[Identity]) -> Verdict:
    """What the warden would decide for this set.

    Raises:
        CliError: mapping or policy cannot be used.
    """
    from mep.manager.config import read_text
    from mep.manager.site import POLICY
    from mep.root.policy import parse
    from mep.root.refusal import ConfigError

    try:
        policy = parse(read_text(place.file(POLICY)))
    except ConfigError as error:
        raise CliError(f"{place.file(POLICY)}: {error}") from error
    if not place.privileged:
        return _owner(policy, identities)
    answer = _ask(place, policy, identities)
    if "error" in answer:
        raise CliError(f"{place.file(policy.mapping)}: {answer['error']}")
    verdict = Verdict(answer["findings"], answer["id"] or None, answer["output"] or None)
    if verdict.account is None:
        verdict.code = "IDENTITY_NOT_MAPPED"
        verdict.message = "No rule of the site maps this identity to an account."
    else:
        _judge(policy, verdict)
    return verdict


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


def _ask(place: Site, policy: "Policy", identities: list[Identity]) -> dict[str, Any]:
    """The process that the warden asks, as the account that it runs as."""
    from mep.cli.accounts import manager_account
    from mep.manager.config import read_text
    from mep.manager.site import PARENT, load_parent

    account = manager_account(policy.callout_user, policy.manager_user)
    known = place.file(PARENT).exists()
    question = {
        "mapping": read_text(place.file(policy.mapping)),
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


def _judge(policy: "Policy", verdict: Verdict) -> None:
    from mep.root.policy import serve
    from mep.root.refusal import Refusal

    assert verdict.account is not None
    try:
        serve(policy, verdict.account)
    except Refusal as refusal:
        verdict.code, verdict.message, verdict.detail = (
            refusal.code,
            refusal.message,
            refusal.detail,
        )


def _record(number: int, raw: Any) -> Identity:
    if not isinstance(raw, dict) or not all(
        isinstance(key, str) and isinstance(value, str | None) for key, value in raw.items()
    ):
        raise CliError(f"identity record {number} must be an object of strings")
    given = {key: value for key, value in raw.items() if value is not None}
    return {"id": f"record {number}", "status": "used", **given}


def _show(verdict: Verdict, identities: list[Identity]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    names = {one["id"]: one.get("username", one["id"]) for one in identities}
    for one in identities:
        if one["status"] not in ("used", "private"):
            console.print(
                f"{escape(names[one['id']])}: status {escape(one['status'])}: not counted"
            )
    for finding in verdict.findings:
        output = finding["output"]
        sign, result = ("[green]=>[/]", f" -> {escape(output)}") if output else ("  ", "")
        who = escape(names.get(finding["identity_id"], finding["identity_id"]))
        source = f" ({escape(finding['source'])})" if finding["source"] else ""
        console.print(f"{sign} {escape(finding['rule'])}  {who}{source}: {finding['why']}{result}")
        console.print(f"      {escape(finding['text'])}", style="dim")
    if verdict.account is not None:
        console.print(f"account: [bold]{escape(verdict.account)}[/]")
    if verdict.code:
        detail = (
            f" ({escape(verdict.detail)})" if verdict.detail not in ("", verdict.message) else ""
        )
        console.print(f"[bold red]refused[/] {verdict.code}: {escape(verdict.message)}{detail}")
    else:
        console.print("policy.toml: [green]served[/]")
