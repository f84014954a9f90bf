"""``relay.toml``: declared once, refused when it does not fit."""

from pathlib import Path

import pytest
from mep_cloud.errors import HomeError
from mep_cloud.settings import MOST_INLINE, Settings, declared, load


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    return path


def test_no_file_means_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "relay.toml") == Settings()


def test_a_table_changes_only_what_it_names(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, "[limits]\npayload = 2048\n")).limits
    assert loaded.payload == 2048
    assert loaded.result == Settings().limits.result


def test_a_preset_fills_in_what_the_table_does_not_say(tmp_path: Path) -> None:
    text = '[limits]\npreset = "globus"\nrate_requests = 7\n'
    loaded = load(written(tmp_path, text)).limits
    assert (loaded.rate_requests, loaded.rate_period_s) == (7, 10.0)
    assert (loaded.payload, loaded.result) == (10_000_000, 10_000_000)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[limts]\n", "did you mean 'limits'? `mep-relay settings` prints"),
        ("[limits]\npayloads = 1\n", "did you mean 'payload'"),
        ("[limits]\npayload = 'big'\n", "payload"),
        ("[limits]\npayload = 1\n", ">= 1024"),
        ("[limits]\npayload = 2000\nrequest = 1024\n", ". `mep-relay settings`"),
        ("[limits]\npreset = 'azure'\n", "preset"),
        ("[limits]\nrequest = 8192\n", "must not be less than payload"),
        ("[limits]\nresult_retention_s = 7776000\n", "record_retention_s must exceed"),
        ("limits = 3\n", "must be a mapping"),
        ("[limits\n", "is no TOML"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(HomeError, match=r"relay\.toml") as refused:
        load(written(tmp_path, text))
    assert why in str(refused.value)


def test_every_setting_is_described_and_has_its_default() -> None:
    every = list(declared(Settings()))
    assert {"limits", "log"} <= {each.table for each in every}
    for each in every:
        assert each.description.endswith("."), each
        assert each.value == each.default, each


def test_the_blob_directory_does_not_depend_on_where_the_relay_is_started(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match=r"\[blobs\]: directory must be an absolute path"):
        load(written(tmp_path, '[blobs]\ndirectory = "blobs"\n'))


def test_several_processes_have_files_only_where_they_share_them(tmp_path: Path) -> None:
    cluster = "[cluster]\nenabled = true\n"
    kept_in_rows = load(written(tmp_path, cluster))
    assert not kept_in_rows.shares_blobs
    assert kept_in_rows.inline == MOST_INLINE >= kept_in_rows.limits.payload
    large = f"[limits]\nresult = {MOST_INLINE + 1}\n"
    with pytest.raises(HomeError, match="directory must name"):
        load(written(tmp_path, large + cluster))
    shared = load(written(tmp_path, large + cluster + '[blobs]\ndirectory = "/srv/blobs"\n'))
    assert (shared.shares_blobs, shared.inline) == (True, Settings().blobs.inline)
    assert load(written(tmp_path, large)).shares_blobs
