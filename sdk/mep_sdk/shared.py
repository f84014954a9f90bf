"""The client of all executors that were given none, one for each login."""

import weakref

from mep_sdk import login
from mep_sdk.client import Client

_shared: "weakref.WeakValueDictionary[tuple[object, ...], Client]" = weakref.WeakValueDictionary()


def shared_client() -> Client:
    """The client of whoever is logged in now.

    Raises:
        CredentialsError: nobody is logged in.
    """
    person = login.find().person
    client = _shared.get(person)
    return _shared.setdefault(person, Client()) if client is None else client
