"""``mep-relay``: set up and serve a relay, add users, tokens and service clients."""

import logging
from pathlib import Path
from typing import Any

import click

from mep_cloud.auth import Provider
from mep_cloud.cli import accounts
from mep_cloud.cli.common import data_option, json_option, show, with_store
from mep_cloud.errors import RelayError
from mep_cloud.home import Home
from mep_cloud.ids import new_id
from mep_cloud.store import Store


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
@json_option
def init(directory: Path, domain: str, as_json: bool) -> None:
    """Set up a relay in DIRECTORY: database and master credential.

    The directory is for the relay's account alone (0700). Back up master.key apart from the
    database: together they can sign starts for every registered endpoint. Refuses a directory
    that is not empty.
    """
    home = Home(directory)
    home.create()
    store = Store(home.database)
    store.create()
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

    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    listen = Listen(host, port, tls_cert, tls_key, insecure_http)

    def announce(url: str) -> None:
        click.echo(f"relay listening on {url}")

    import uvloop

    uvloop.run(run(data, listen, announce))


relay.add_command(accounts.user)
relay.add_command(accounts.token)
relay.add_command(accounts.client)
