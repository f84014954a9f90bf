"""slurmdbd over a MariaDB of its own, on the controller of a cluster."""

import shutil
import socket
import subprocess
from pathlib import Path

from testbed import until
from testbed.machines import Machine
from testbed.slurm_conf import slurmdbd_conf

_SETUP = """
create database slurm_acct_db;
create user 'slurm'@'localhost' identified by 'slurm';
grant all on slurm_acct_db.* to 'slurm'@'localhost';
"""


def start(controller: Machine, top: Path, port: int, environment: dict[str, str]) -> None:
    """Start both, and return when slurmdbd answers on `port`.

    Raises:
        TimeoutError: a daemon did not come up; its log is in ``top/log``.
    """
    data, server = top / "mariadb/data", str(top / "mariadb/socket")
    data.parent.mkdir()
    shutil.chown(data.parent, "mysql", "mysql")
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}"),
            *("--auth-root-authentication-method=socket", "--skip-test-db"),
        ],
        check=True,
        timeout=60,
        capture_output=True,
    )
    controller.start(
        *("mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}"),
        *(f"--socket={server}", f"--pid-file={top}/mariadb/pid", "--skip-networking"),
        "--innodb-buffer-pool-size=64M",
        environment=environment,
    )
    until(lambda: _sql(server, "select 1"), "MariaDB up")
    if not _sql(server, _SETUP):
        raise RuntimeError("the database of slurmdbd could not be made")
    conf = top / "slurmdbd.conf"
    conf.touch(mode=0o600)
    conf.write_text(slurmdbd_conf(top, port))
    shutil.chown(conf, "slurm", "slurm")
    # libmariadb knows no other way to a socket of one's own.
    controller.start("slurmdbd", "-D", environment={**environment, "MYSQL_UNIX_PORT": server})
    until(lambda: _answers(port), "slurmdbd up")


def _sql(server: str, statements: str) -> bool:
    done = subprocess.run(
        ["mariadb", "--no-defaults", f"--socket={server}", "--execute", statements],
        check=False,
        timeout=20,
        capture_output=True,
    )
    return done.returncode == 0


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
