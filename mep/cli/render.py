"""``mep render``: the configuration that a user would get, or the refusal."""

import json
import os
import pwd
import sys
from pathlib import Path
from typing import IO, Any

import click

from mep.cli.errors import DONE, FAILED, CliError
from mep.cli.site import Site, configured_site

EXAMPLE_ACCOUNT = {
    "uname": "alice",
    "uid": 1000,
    "gid": 1000,
    "gecos": "Alice Example",
    "dir": "/home/alice",
    "shell": "/bin/bash",
    "groups": [1000],
}


@click.command
@click.argument("name")
@click.option(
    "--user-options",
    metavar="FILE",
    type=click.File("rb"),
    help="A user_endpoint_config: JSON (or YAML); '-' is standard input. Default: no options.",
)
@click.option(
    "--runtime",
    metavar="FILE",
    type=click.File("rb"),
    help="A user_runtime, as JSON; it becomes _GC.user_runtime.",
)
@click.option("--account", metavar="ACCOUNT", help="The mapped account; root's default: an example")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    name: str,
    user_options: IO[bytes] | None,
    runtime: IO[bytes] | None,
    account: str | None,
    as_json: bool,
) -> int:
    """Show the configuration that NAME's template gives for a user's options.

    Checks the options against user_config_schema.json, renders the template and validates the
    result, all by the code that runs in the user's process. A refusal is shown as the user would
    see it; the exit status is 1 then. Root gives up its privileges first.

    \b
    Examples:
      mep render cluster
      echo '{"MAX_WORKERS": 4}' | mep render cluster --user-options -
      mep render cluster --user-options options.json --account alice
    """
    place = configured_site(name)
    given = [file.read() if file else b"" for file in (user_options, runtime)]
    files = _site_files(place)
    who = _account(place, account)
    parent = _parent(place)
    _give_up_root(place)
    answer = _render(files, *given, parent=parent, account=who, directory=place.etc)
    if as_json:
        print(json.dumps(answer, indent=2))
    elif "config" in answer:
        import yaml

        print(yaml.safe_dump(answer["config"], sort_keys=False, allow_unicode=True), end="")
        for warning in answer["warnings"]:
            print(f"warning: {warning}", file=sys.stderr)
    else:
        refusal = answer["error"]
        print(f"refused ({refusal['code']}): {refusal['message']}", file=sys.stderr)
    return DONE if "config" in answer else FAILED


def _render(
    files: dict[str, bytes],
    options: bytes,
    runtime: bytes,
    *,
    parent: Any,
    account: dict[str, Any],
    directory: Path,
) -> dict[str, Any]:
    from mep.endpoint import config, environment
    from mep.endpoint.errors import StartError
    from mep.endpoint.start import check_data
    from mep.endpoint.template.names import Site as Names
    from mep.endpoint.template.render import render

    try:
        variables = {**_example_environment(account), **environment.parse(files["environment"])}
        rendered = render(
            _text(files["template"], "the template"),
            _mapping(options, "the user's options"),
            schema=_schema(files["schema"]),
            site=Names(
                parent=parent,
                runtime=_mapping(runtime, "the runtime"),
                account=account,
                identity_id="00000000-0000-0000-0000-000000000000",
                environment=variables,
            ),
            loader_dir=str(directory),
        )
        settings = config.convert(rendered)
        _check_engine(settings.engine)
        permits = settings.permits(parent)
        if parent.require_json_data:
            check_data(permits, settings, parent)
    except StartError as error:
        return {"error": {"code": error.code, "message": str(error)}}
    remark = settings.data_remark(permits)
    warnings = [remark] if remark else []
    return {"config": rendered, "warnings": warnings + _warnings(settings.engine, parent.settings)}


def _check_engine(section: dict[str, Any]) -> None:
    """See whether an engine can be made of it.

    Raises:
        ConfigRefused: it cannot.
    """
    from mep.endpoint.engines.provider_settings import check_packages
    from mep.endpoint.engines.settings import PoolEngineSettings, read
    from mep.endpoint.errors import ConfigRefused
    from mep.wire.settings import SettingsError

    try:
        settings = read(section)
        if not isinstance(settings, PoolEngineSettings):
            check_packages(settings.provider)
    except SettingsError as error:
        raise ConfigRefused(str(error)) from error


def _warnings(engine: dict[str, Any], site: dict[str, Any]) -> list[str]:
    """What a user endpoint with this engine would do otherwise than its template says."""
    from mep.endpoint.engines.network_settings import NOT_FOLLOWED

    clear = engine.get("encrypted") is False and site.get("allow_unencrypted_pools") is not True
    return [NOT_FOLLOWED] if clear else []


def _site_files(place: Site) -> dict[str, bytes]:
    """Template, schema and environment, under the names that ``policy.toml`` gives them."""
    from mep.cli.preparation import policy

    said = policy(place)
    names = {
        "template": "user_config_template.yaml.j2",
        "schema": "user_config_schema.json",
        "environment": "user_environment.yaml",
    }
    return {
        key: _bytes(place.file(str(said.get(key, default))), needed=key == "template")
        for key, default in names.items()
    }


def _bytes(path: Path, *, needed: bool) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if needed:
            raise CliError(f"{path} does not exist, so no user endpoint can start") from None
        return b""


def _parent(place: Site) -> Any:
    """As it would be written now; an endpoint that is not registered can be rendered too."""
    from mep.cli.preparation import fresh_parent
    from mep.manager import site as managers

    known = place.file(managers.PARENT).exists()
    nobody = "00000000-0000-0000-0000-000000000000"
    return fresh_parent(place, managers.load_parent(place.etc).endpoint_id if known else nobody)


def _account(place: Site, name: str | None) -> dict[str, Any]:
    if name is None and place.privileged:
        return EXAMPLE_ACCOUNT
    try:
        entry = pwd.getpwuid(os.getuid()) if name is None else pwd.getpwnam(name)
    except KeyError:
        raise CliError(f"there is no account {name!r} on this machine") from None
    return {
        "uname": entry.pw_name,
        "uid": entry.pw_uid,
        "gid": entry.pw_gid,
        "gecos": entry.pw_gecos,
        "dir": entry.pw_dir,
        "shell": entry.pw_shell,
        "groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
    }


def _give_up_root(place: Site) -> None:
    from mep.cli.accounts import become
    from mep.cli.preparation import owner_of

    if (account := owner_of(place)) is not None:
        become(account)


def _example_environment(account: dict[str, Any]) -> dict[str, str]:
    return {"HOME": account["dir"], "USER": account["uname"], "LANG": "C.UTF-8"}


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"{what} is not UTF-8 text: {error.reason}") from error


def _schema(data: bytes) -> Any:
    try:
        return json.loads(data) if data.strip() else None
    except ValueError as error:
        raise CliError(f"the schema is not JSON: {error}") from error


def _mapping(data: bytes, what: str) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(_text(data, what))
    except yaml.YAMLError as error:
        raise CliError(f"{what} are neither JSON nor YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CliError(f"{what} must be one JSON object, not {type(value).__name__}")
    return value
