"""The program: ``identity_mapping_input#1.0.0`` in, ``identity_mapping_output#1.0.0`` out.

As the command of an ``external_identity_mapping#1.0.0`` document it takes the file of the
``ldap_identity_mapping#1.0.0`` document as its argument. Without one the document is the key
``mapping`` of its input, and its output has a ``why`` for each identity. Exit status 1, with a
sentence on standard error: nobody is mapped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from typing import Any, Final

SYSTEM_PYTHON: Final = "/usr/bin/python3"


def main() -> None:
    """Answer the question on standard input."""
    parser = argparse.ArgumentParser(prog="mep-ldap-mapping", description=__doc__)
    parser.add_argument("file", nargs="?", metavar="FILE", help="the document")
    parser.add_argument("-a", action="store_true", help="all identities (always so)")
    parser.add_argument("-c", metavar="ID", help="not needed")
    parser.add_argument("-s", metavar="ID", help="not needed")
    given = parser.parse_args()
    _need_ldap()
    from mep.callout.directory.look_up import answers
    from mep.callout.errors import ExternalError, MappingError

    try:
        question = json.load(sys.stdin)
        told = given.file is None
        raw = question["mapping"] if told else _read(given.file)
        results = list(answers(raw, question["identities"]))
    except (ExternalError, MappingError, OSError, ValueError, LookupError, TypeError) as error:
        sys.exit(f"mep-ldap-mapping: {error}")
    if not told:
        results = [{k: one[k] for k in ("id", "output")} for one in results if one["output"]]
    json.dump({"DATA_TYPE": "identity_mapping_output#1.0.0", "result": results}, sys.stdout)


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        raw = json.load(file)
    if not isinstance(raw, dict) or raw.get("DATA_TYPE") != "ldap_identity_mapping#1.0.0":
        raise ValueError(f"{path} is no ldap_identity_mapping#1.0.0 document")
    return raw


def _need_ldap() -> None:
    """python-ldap, here or in the distribution's own Python, where it is kept up to date."""
    os.environ["LDAPNOINIT"] = "1"  # no ldap.conf and no ~/.ldaprc says what is to be trusted
    try:
        import ldap  # noqa: F401
    except ImportError:
        if sys.executable != SYSTEM_PYTHON and os.access(SYSTEM_PYTHON, os.X_OK):
            os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, "-I", __file__, *sys.argv[1:]])  # noqa: S606
        sys.exit(
            "mep-ldap-mapping: python-ldap is missing: install the distribution's python3-ldap, or "
            "hpc-mep[ldap]"
        )


if __name__ == "__main__":
    # In another Python there is no package `mep`: an empty one finds its parts beside this.
    package = types.ModuleType("mep")
    package.__path__ = [__file__.rsplit("/", 3)[0]]
    sys.modules["mep"] = package
    main()
