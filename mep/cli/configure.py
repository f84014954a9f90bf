"""``mep configure``: write an endpoint's files, ready to be edited."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import click

from mep.cli import examples
from mep.cli.accounts import CALLOUT, MANAGER, missing
from mep.cli.errors import CliError
from mep.cli.files import directory
from mep.cli.site import Site, site

OWNERS_POLICY: Final = """\
# What this single-user endpoint obeys: it serves its owner and nobody else. The identity ids at
# the relay that are the owner's; `mep register` writes them.
owner = []
"""

NOBODY: Final = """\
[
  {
    "DATA_TYPE": "expression_identity_mapping#1.0.0",
    "mappings": []
  }
]
"""

MAPPING: Final = "identity_mapping.json"
EXAMPLE_MAPPING: Final = "identity_mapping.example.json"


@click.command
@click.argument("name")
@click.option(
    "--relay-url",
    metavar="URL",
    envvar="MEP_RELAY_URL",
    required=True,
    show_envvar=True,
    help="The relay: https://HOST[:PORT].",
)
@click.option(
    "--ca-file",
    metavar="FILE",
    envvar="MEP_CA_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CA certificates to trust for the relay, besides the system's.",
)
@click.option(
    "--domain",
    metavar="DOMAIN",
    help="Map each NAME@DOMAIN to the account NAME, at once. Else nobody is mapped yet.",
)
@click.option(
    "--identity-provider",
    metavar="ID",
    help="Whose word on names of DOMAIN counts. Default: the one that you are logged in by.",
)
@click.option(
    "--pam",
    "service",
    metavar="SERVICE",
    is_flag=False,
    flag_value="mep",
    help="Accounts and sessions by PAM, with this file in /etc/pam.d; mep if none is named.",
)
@click.option("--display-name", metavar="TEXT", help="The name that people see in lists.")
@click.option(
    "--multi-user/--single-user",
    default=None,
    help="Root makes multi-user endpoints, everybody else single-user ones; this asserts which.",
)
def command(
    name: str,
    relay_url: str,
    ca_file: Path | None,
    domain: str | None,
    identity_provider: str | None,
    service: str | None,
    display_name: str | None,
    multi_user: bool | None,
) -> None:
    """Make the endpoint NAME: write its files, ready to be edited.

    As root: a multi-user endpoint in /etc/mep/NAME, which maps nobody until you edit
    identity_mapping.json, or with --domain the people of one domain. As anyone else: a single-user
    endpoint in ~/.config/mep/NAME, which runs your own tasks.

    \b
    Examples:
      mep configure cluster --relay-url https://relay.example.org:8443
      mep configure cluster --relay-url https://relay.example.org --domain example.edu --pam
      mep configure laptop --relay-url https://relay.example.org --display-name "My laptop"
    """
    from mep.manager.config import check_relay_url

    place = site(name)
    _check_kind(place, multi_user)
    _check_root_s(place, domain, identity_provider, service)
    url = check_relay_url(relay_url)
    if place.etc.exists():
        raise CliError(f"{place.etc} exists already; edit its files, or remove it to begin anew")
    settings: dict[str, Any] = {"relay_url": url, "multi_user": place.privileged}
    if ca_file is not None:
        settings["ca_file"] = str(ca_file.resolve())
    if display_name is not None:
        settings["display_name"] = display_name
    texts = contents(place, settings)
    if domain is not None:
        texts[MAPPING] = _mapping(domain, identity_provider, url, settings.get("ca_file"))
    if service is not None:
        texts["policy.toml"] = with_pam(texts["policy.toml"], service)
    _write(place, texts)
    _tell(place, domain, service)


def _check_root_s(
    place: Site, domain: str | None, identity_provider: str | None, service: str | None
) -> None:
    if not place.privileged and (domain is not None or service is not None):
        word = "--domain" if domain is not None else "--pam"
        raise CliError(f"{word} is for root's endpoints: this one serves you and nobody else")
    if domain is None and identity_provider is not None:
        raise CliError("--identity-provider goes with --domain: it says whose names are mapped")


def with_pam(policy: str, service: str) -> str:
    """The text of ``policy.toml`` with PAM, by this service.

    Raises:
        CliError: PAM would not find a file of that name.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", service):
        raise CliError(f"{service!r} cannot be a file in /etc/pam.d that PAM finds: lower case")
    head, mark, table = policy.partition("[pam]")
    table = re.sub(r"(?m)^enable = .*$", "enable = true", table, count=1)
    table = re.sub(r"(?m)^service_name = .*$", f'service_name = "{service}"', table, count=1)
    return head + mark + table


def _mapping(domain: str, provider: str | None, url: str, ca_file: str | None) -> str:
    from mep.cli.domain import mapping, provider_of
    from mep.link import Peer

    return mapping(domain, provider or provider_of(Peer(url, ca_file)))


def contents(place: Site, settings: dict[str, Any]) -> dict[str, str]:
    """File name -> text, of every file that is edited by hand."""
    texts = {name: examples.text(name) for name in examples.NAMES}
    for key, value in settings.items():
        texts["config.yaml"] = set_line(texts["config.yaml"], key, value)
    if place.privileged:
        texts[EXAMPLE_MAPPING] = texts[MAPPING]
        texts[MAPPING] = NOBODY
    else:
        del texts[MAPPING]
        texts["policy.toml"] = OWNERS_POLICY
    return texts


def set_line(text: str, key: str, value: object) -> str:
    """`text` (YAML) with `key`'s line, which may be commented out, set to `value`."""
    line = f"{key}: {_scalar(value)}"
    changed, count = re.subn(rf"(?m)^#?{re.escape(key)}:.*$", lambda _: line, text, count=1)
    return changed if count else f"{text.rstrip()}\n\n{line}\n"


def _scalar(value: object) -> str:
    """On one line, with nothing in it that could end the line."""
    import yaml

    if not isinstance(value, str):
        return json.dumps(value)
    return str(yaml.safe_dump(value, default_style='"', width=1 << 30)).strip()


def _check_kind(place: Site, multi_user: bool | None) -> None:
    if place.privileged and multi_user is False:
        raise CliError(
            "root cannot have a single-user endpoint: tasks would run as root; run this as the "
            "account whose tasks it is for"
        )
    if not place.privileged and multi_user:
        raise CliError("a multi-user endpoint maps people to accounts, so root must make it")


def _write(place: Site, texts: dict[str, str]) -> None:
    """The whole directory, or nothing."""
    parent = place.etc.parent
    if not parent.exists():
        directory(parent, 0o755 if place.privileged else 0o700)
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=parent))
    try:
        for name, text in texts.items():
            path = fresh / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644 if place.privileged else 0o600)
        fresh.chmod(0o755 if place.privileged else 0o700)
        fresh.rename(place.etc)  # refuses to replace what somebody made meanwhile
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _tell(place: Site, domain: str | None, service: str | None) -> None:
    name = place.name
    print(f"made {'multi' if place.privileged else 'single'}-user endpoint {name} in {place.etc}")
    print("next:")
    if place.privileged and (absent := missing(MANAGER, CALLOUT)):
        print(f"  {absent}")
    if service is not None and not Path("/etc/pam.d", service).is_file():
        print(f"  make /etc/pam.d/{service}; examples are in /usr/share/doc/hpc-mep/pam.d")
    if place.privileged:
        if domain is None:
            print(f"  edit {MAPPING}: it maps nobody yet; see {EXAMPLE_MAPPING}")
        print(f"  mep map {name} --identity FILE      which account an identity becomes")
    print(f"  edit user_config_template.yaml.j2, then: mep render {name}")
    print(f"  mep register {name}                 with a token from the relay")
    print(f"  mep start {name}")
