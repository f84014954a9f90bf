import json
from pathlib import Path

import pytest
from warden_harness import Warden, granted, identity, name_of, started

pytestmark = pytest.mark.root


def test_smoke(warden):
    warden.start()
    with warden.manager_connected() as (peer, boot):
        start = granted(boot, identity("alice"))
        peer.say(start)
        reply = peer.hear()
        print(reply, warden.audit())
        print(warden.up())
        print(Path(warden.accounts["alice"].pw_dir, f"seen-{name_of(start)}.json").read_text())
    assert 0
