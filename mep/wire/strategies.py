"""Names of serialization strategies, and the ids of their buffers: Globus Compute's, and one more.

What is in such a buffer only :mod:`mep.payload` knows. Standard library only.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

CODE: Final = {
    "DillCode": "01",
    "PickleCode": "02",
    "DillCodeTextInspect": "03",
    "DillCodeSource": "04",
    "CombinedCode": "10",
    "AllCodeStrategies": "12",
    "PureSourceTextInspect": "st",
    "PureSourceDill": "sd",
}
DATA: Final = {
    "DillDataBase64": "00",
    "JSONData": "11",
    "AllDataStrategies": "13",
    "DillDataRaw": "rd",
}
"""``DillDataRaw`` is ours: what DillDataBase64 writes, without base64 and without copies. It is the
default between our own SDK and workers, and allowed wherever DillDataBase64 is."""

WILDCARDS: Final = {"*Code": CODE, "*Data": DATA}
"""``globus_compute_sdk.*Code`` in a list of allowed serializers stands for all of them."""


READ_ONLY: Final = ("02", "10")
"""Of older SDKs: nobody writes them any more."""


def strategy_id(name: str) -> str:
    """The buffer id of a strategy that is to write, given by id, name or import path.

    Raises:
        ValueError: there is no such strategy, or nobody writes it any more.
    """
    known = _id(name)
    if known in READ_ONLY:
        raise ValueError(f"serialization strategy {name!r} can be read, but no longer written")
    return known


def _id(name: str) -> str:
    known = {**CODE, **DATA}
    last = str(name).rpartition(".")[2]
    if last in known.values():
        return last
    if last not in known:
        raise ValueError(f"unknown serialization strategy {name!r}; known: {', '.join(known)}")
    return known[last]


def allowed_ids(names: Sequence[str]) -> list[str]:
    """The ids that a list of allowed serializers stands for.

    Raises:
        ValueError: an unknown name; or nothing for functions, or nothing for data.
    """
    ids: list[str] = []
    for name in names:
        several = WILDCARDS.get(str(name).rpartition(".")[2])
        ids += several.values() if several else [_id(name)]
    for what, known in (("functions", CODE), ("data", DATA)):
        if ids and not set(ids) & set(known.values()):
            raise ValueError(f"none of {list(names)} is for {what}: {', '.join(known)}")
    if DATA["DillDataBase64"] in ids:
        ids.append(DATA["DillDataRaw"])
    return sorted(set(ids))


def as_text(payload: bytes) -> str:
    """A payload where only text can go: as it is, or, if it is raw, as a buffer of id ``rd``.

    A reader of Globus Compute's buffers knows by the id that it cannot read it.
    """
    if payload[:1] == b"\0":
        return "rd\n" + b64encode(payload).decode()
    return payload.decode("utf-8", "replace")


def data_is_json(names: Sequence[str] | None) -> bool:
    """Whether such a list of allowed serializers lets no data in but JSON, which runs nothing.

    Data in other forms is pickled, and whoever writes a pickle decides what reading it executes.
    """
    data = set(allowed_ids(names or ())) & set(DATA.values())
    return data == {DATA["JSONData"]}
