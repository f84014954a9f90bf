"""``mep-relay``: set up and serve a relay, add users, tokens and service clients."""

import logging
from pathlib import Path
from typing import Any

import click

from mep_cloud import logs, settings
from mep_cloud.auth import Provider
from mep_cloud.cli import accounts, endpoints, operation, policies, providers, users
from mep_cloud.cli.common import data_option, json_option, show, store_of, with_store
from mep_cloud.cli.settings import show_settings
from mep_cloud.errors import RelayError
from mep_cloud.home import Home
from mep_cloud.identity.settings import check_domain
from mep_cloud.ids import new_id
from mep_cloud.store import Store

log = logging.getLogger(__name__)


class _Group(click.Group):
    """Turns this package's errors into one line on stderr and exit status 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RelayError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.version_option(package_name="hpc-mep")
def relay() -> None:
    """The relay between users' laptops and sites.

    \b
    First steps:
        mep-relay init /var/lib/mep-relay
        mep-relay user add alice@example.org --data /var/lib/mep-relay --admin
        mep-relay token create alice@example.org --data /var/lib/mep-relay
        mep-relay serve --data /var/lib/mep-relay --host 0.0.0.0 \\
            --tls-cert fullchain.pem --tls-key privkey.pem

    Users and tokens can be added while the relay serves.
    """


@relay.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--domain",
    default="relay.local",
    show_default=True,
    help="Appended to user names that have no @domain.",
)
@click.option(
    "--database",
    default="",
    metavar="URL",
    help="Keep the data in PostgreSQL: postgresql://USER@HOST/NAME, an empty database.",
)
@click.option(
    "--database-password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Holds the password of USER; it is copied into DIRECTORY.",
)
@json_option
def init(
    directory: Path,
    domain: str,
    database: str,
    database_password_file: Path | None,
    as_json: bool,
) -> None:
    """Set up a relay in DIRECTORY: database and master credential.

    The directory is for the relay's account alone (0700). Back up master.key apart from the
    database: together they can sign starts for every registered endpoint. Refuses a directory
    that is not empty.
    """
    try:
        check_domain(domain)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--domain") from error
    password = None if database_password_file is None else _password(database_password_file)
    home = Home(directory)
    home.create()
    try:
        if database:
            home.use_database(database, password)
        store = store_of(directory)
        store.create()
    except RelayError:
        home.discard()
        raise
    provider = Provider(new_id(), domain)

    async def settle(opened: Store) -> None:
        await opened.users.put_setting("domain", provider.domain)
        await opened.users.put_setting("provider_id", provider.id)

    with_store(store, settle)
    show(
        {"directory": str(directory), "provider_id": provider.id, "domain": domain},
        f"relay set up in {directory}\nidentity provider {provider.id}",
        as_json,
    )


def _password(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{error}.", param_hint="--database-password-file") from error


@relay.command()
@data_option
@click.option(
    "--check", is_flag=True, help="Change nothing; exit status 1 if something is missing."
)
@json_option
def migrate(data: Path, check: bool, as_json: bool) -> None:
    """Bring the database's tables up to date with this version.

    `mep-relay serve` does it by itself. There is no way back but a backup made before.
    """
    store = store_of(data)
    names = store.missing() if check else store.migrate()
    done = "missing" if check else "made"
    text = "\n".join(f"{done}: {name}" for name in names)
    show({done: names}, text or "The database is up to date.", as_json)
    if check and names:
        click.get_current_context().exit(1)


@relay.command()
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0: any free."
)
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="PEM chain.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="PEM private key.")
@click.option(
    "--insecure-http",
    is_flag=True,
    help="Serve plain HTTP beyond this machine (behind a proxy that ends TLS).",
)
@click.option("--debug", is_flag=True, help="Log more.")
def serve(
    data: Path,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure_http: bool,
    debug: bool,
) -> None:
    """Serve until SIGTERM or SIGINT; nothing that was accepted is lost.

    Prints `relay listening on URL` once connections are accepted. Without a certificate only
    loopback addresses are served.
    """
    from mep_cloud.serve import Listen
    from mep_cloud.serve import serve as run

    log_settings = settings.load(Home(data).settings).log
    logs.start(log_settings, debug=debug)
    listen = Listen(host, port, tls_cert, tls_key, insecure_http)

    def announce(url: str) -> None:
        click.echo(f"relay listening on {url}")

    import uvloop

    try:
        uvloop.run(run(data, listen, announce))
    except RelayError as error:
        if log_settings.format == "text":
            raise
        log.critical("%s", error)
        click.get_current_context().exit(1)


relay.add_command(users.user)
relay.add_command(providers.provider)
relay.add_command(accounts.token)
relay.add_command(accounts.client)
relay.add_command(endpoints.endpoint)
relay.add_command(policies.policy)
relay.add_command(show_settings)
relay.add_command(operation.backup)
relay.add_command(operation.metrics_token)
