"""``mep map``: which account an identity becomes, and why."""

import json
import sys
from dataclasses import asdict
from typing import IO, Any

import click

from mep.cli.audit import plain
from mep.cli.errors import DONE, FAILED, CliError
from mep.cli.site import configured_site
from mep.cli.verdict import Identity, Verdict, decide


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
    """Show which account an identity becomes on NAME, by which rule, and what policy and PAM say.

    Every rule is shown, in order, with why it did or did not match; the first that matches decides,
    and no program or directory is asked after it. The code is the warden's own. The exit status is
    1 when a start would be refused.

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
        for remark in verdict.remarks:
            print(f"warning: {remark}", file=sys.stderr)
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


def _record(number: int, raw: Any) -> Identity:
    if not isinstance(raw, dict) or not all(
        isinstance(key, str) and isinstance(value, str | None) for key, value in raw.items()
    ):
        raise CliError(f"identity record {number} must be an object of strings")
    given = {key: value for key, value in raw.items() if value is not None}
    return {"id": f"record {number}", "status": "used", **given}


def _show(verdict: Verdict, identities: list[Identity]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    names = {one["id"]: one.get("username", one["id"]) for one in identities}
    for one in identities:
        if one["status"] not in ("used", "private"):
            console.print(
                f"{_plain(names[one['id']])}: status {_plain(one['status'])}: not counted"
            )
    decided = next((one for one in verdict.findings if one["output"]), None)
    for finding in verdict.findings:
        output = finding["output"]
        sign = "[green]=>[/]" if finding is decided else "  "
        result = f" -> {_plain(output)}" if output else ""
        if output and finding is not decided:
            result += ", but an earlier rule has decided"
        who = _plain(names.get(finding["identity_id"], finding["identity_id"]))
        source = f" ({_plain(finding['source'])})" if finding["source"] else ""
        console.print(
            f"{sign} {_plain(finding['rule'])}  {who}{source}: {_plain(finding['why'])}{result}"
        )
        console.print(f"      {_plain(finding['text'])}", style="dim")
    if verdict.account is not None:
        console.print(f"account: [bold]{_plain(verdict.account)}[/]")
    if verdict.code:
        detail = (
            f" ({_plain(verdict.detail)})" if verdict.detail not in ("", verdict.message) else ""
        )
        console.print(f"[bold red]refused[/] {verdict.code}: {_plain(verdict.message)}{detail}")
    else:
        console.print("policy.toml: [green]served[/]")
    if verdict.account is not None:
        console.print(f"PAM: {verdict.pam}")


def _plain(text: str) -> str:
    """What others chose, without what a terminal or Rich would obey."""
    from rich.markup import escape

    return escape(plain(text))
