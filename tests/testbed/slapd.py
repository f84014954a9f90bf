"""An OpenLDAP server of its own: data in a new directory, on free ports of 127.0.0.1.

People: alice and bob; two entries with the address twin@uni.test; one of two account names, mixed;
one without any, empty. It answers cn=svc, whose password is ``svcpw``, and nobody else.
"""

import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import quote

from testbed import until

SLAPD = Path("/usr/sbin/slapd")
BIND_DN = "cn=svc,dc=site,dc=test"
PASSWORD = "svcpw"
BASE = "ou=people,dc=site,dc=test"
_BOUND_S = 60

_CONF = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {top}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {top}/cert.pem
TLSCertificateKeyFile {top}/key.pem
database mdb
suffix dc=site,dc=test
directory {top}/db
maxsize 16777216
index uid,mail eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact={bind_dn} read by anonymous auth by * none
"""

_TREE = """\
dn: dc=site,dc=test
objectClass: dcObject
objectClass: organization
o: site
dc: site

dn: {bind_dn}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: svc
userPassword: {password}

dn: {base}
objectClass: organizationalUnit
ou: people
"""

_PEOPLE = {
    "alice": ("alice@uni.test", ["alice"]),
    "bob": ("bob@uni.test", ["bob"]),
    "star": ("st*r(x)@uni.test", ["star"]),
    "twin1": ("twin@uni.test", ["twin1"]),
    "twin2": ("twin@uni.test", ["twin2"]),
    "mixed": ("mixed@uni.test", ["mixed", "other"]),
    "empty": ("empty@uni.test", []),
    "strange": ("strange@uni.test", ["a b\x07"]),
}
"""cn -> address and uids."""


def missing() -> str | None:
    """Why there can be no server here; None if there can."""
    return None if SLAPD.exists() else "needs OpenLDAP's server (package slapd)"


class Directory:
    """One server; a context manager."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mep-slapd-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.ca_file = self.directory / "cert.pem"
        self._ports = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ldap(self) -> str:
        return f"ldap://127.0.0.1:{self._ports[0]}"

    @property
    def ldaps(self) -> str:
        return f"ldaps://127.0.0.1:{self._ports[1]}"

    @property
    def ldapi(self) -> str:
        return f"ldapi://{quote(str(self.directory / 'ldapi'), safe='')}"

    def __enter__(self) -> Self:
        try:
            self._make()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_BOUND_S)
        shutil.rmtree(self.directory)

    def _make(self) -> None:
        top = self.directory
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        _run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", names),
            *("-keyout", str(top / "key.pem"), "-out", str(self.ca_file)),
        )
        (top / "db").mkdir()
        (top / "slapd.conf").write_text(_CONF.format(top=top, bind_dn=BIND_DN))
        tree = [_TREE.format(bind_dn=BIND_DN, password=PASSWORD, base=BASE)]
        tree += [_person(name, mail, uids) for name, (mail, uids) in _PEOPLE.items()]
        (top / "data.ldif").write_text("\n".join(tree))
        conf, data = str(top / "slapd.conf"), str(top / "data.ldif")
        _run("/usr/sbin/slapadd", "-q", "-f", conf, "-l", data)

    def _start(self) -> None:
        urls = " ".join(f"{url}/" for url in (self.ldap, self.ldaps, self.ldapi))
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # It ends with whoever started it, also if that is killed; -d: it does not fork.
                [
                    *("setpriv", "--pdeathsig", "TERM", str(SLAPD), "-d", "0"),
                    *("-f", str(self.directory / "slapd.conf"), "-h", urls),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._listens, f"slapd in {self.directory}")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        for port in self._ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return (self.directory / "ldapi").exists()


def _person(name: str, mail: str, uids: list[str]) -> str:
    lines = [f"dn: cn={name},{BASE}", "objectClass: inetOrgPerson", f"cn: {name}", f"sn: {name}"]
    return "\n".join([*lines, f"mail: {mail}", *(f"uid: {uid}" for uid in uids)]) + "\n"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BOUND_S, check=False)
    assert done.returncode == 0, done.stderr


def _free_ports(count: int) -> list[int]:
    """All of them taken at once, so that no two are the same."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    """A port where nobody listens."""
    (port,) = _free_ports(1)
    return port
