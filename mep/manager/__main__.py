"""``python -I -m mep.manager``: the site's unprivileged process.

Exit status: 0 after SIGTERM; 78 (EX_CONFIG) when the configuration cannot be used, which trying
again does not change; 1 for what may pass, such as a directory that cannot be written.
"""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Final

from mep.manager import notify
from mep.manager.service import Manager, Places, set_level
from mep.manager.site import load
from mep.wire.settings import SettingsError

log = logging.getLogger("mep.manager")

EX_CONFIG: Final = os.EX_CONFIG


def main() -> int:
    """Run the manager; returns its exit status."""
    places = _places()
    _log_to_stderr()
    try:
        site = load(places.config)
    except SettingsError as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence, no traceback
        notify.notify(STATUS=str(error))
        return EX_CONFIG
    set_level(site)
    for warning in site.warnings:
        log.warning("%s", warning)

    async def serve() -> None:
        await Manager(places, site).run()

    try:
        asyncio.run(serve())
    except OSError as error:
        log.error("the manager cannot go on: %s", error)  # noqa: TRY400 - a sentence, no traceback
        return 1
    return 0


def _places() -> Places:
    parser = argparse.ArgumentParser(prog="mep.manager", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="/etc/mep/NAME")
    parser.add_argument("--state", type=Path, required=True, help="/var/lib/mep/NAME")
    parser.add_argument("--run", type=Path, required=True, help="/run/mep/NAME")
    parser.add_argument("--log", type=Path, required=True, help="/var/log/mep/NAME")
    parser.add_argument("--warden", type=Path, required=True, help="the warden's socket")
    said = parser.parse_args()
    return Places(said.config, said.state, said.run, said.log, said.warden)


def _log_to_stderr() -> None:
    """Times only where nobody adds them: journald does."""
    times = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(format=f"{times}%(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("mep").setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
