"""Commands as functions, from the SDK to a mapped user's shell and back."""

import pwd
from pathlib import Path

import pytest
from house import Site
from mep_sdk import Client, Executor, ShellFunction, ShellResult

pytestmark = pytest.mark.root


@pytest.fixture
def executor(site: Site):
    with site.executor("alice") as ex:
        yield ex


def test_one_function_several_calls(executor: Executor) -> None:
    sf = ShellFunction("echo '{message}'")
    futures = [executor.submit(sf, message=word) for word in ("hello", "hola", "bonjour")]
    assert [future.result(60).stdout for future in futures] == ["hello\n", "hola\n", "bonjour\n"]


def test_walltime_and_failure_are_results(executor: Executor) -> None:
    late = executor.submit(ShellFunction("sleep 20", walltime=0.5))
    bad = executor.submit(ShellFunction("exit 3"))
    assert late.result(60).returncode == 124
    assert late.result().exception_name == "subprocess.TimeoutExpired"
    assert bad.result(60).returncode == 3


def test_it_runs_as_the_mapped_user(site: Site, executor: Executor) -> None:
    account = pwd.getpwnam(site.accounts["alice"])
    where = Path(account.pw_dir, "made-by-shell")
    result = executor.submit(
        ShellFunction("id -un; touch here", stdout="out.txt", run_dir=str(where))
    ).result(60)
    assert isinstance(result, ShellResult)
    assert result.stdout == f"{account.pw_name}\n" == (where / "out.txt").read_text()
    assert (where / "here").stat().st_uid == account.pw_uid


def test_a_missing_field_is_told(executor: Executor) -> None:
    with pytest.raises(KeyError, match="pass word="):
        executor.submit(ShellFunction("echo {word}")).result(60)


def test_registered_and_called_by_its_id(site: Site, executor: Executor) -> None:
    client: Client = site.relay.client("alice")
    function_id = client.register_function(ShellFunction("echo {n}", return_dict=True, name="say"))
    assert client.get_registered_function(function_id)["function_name"] == "say"
    future = executor.submit_to_registered_function(function_id, kwargs={"n": 7})
    assert future.result(60)["stdout"] == "7\n"
