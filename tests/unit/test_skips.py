"""In CI a skip is a failure; elsewhere it is told."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
CONFTEST = (Path(__file__).parents[1] / "conftest.py").read_text()
TESTS = """
import os, pytest
def test_runs(): pass
def test_skips(): pytest.skip("needs a thing")
@pytest.mark.xfail(strict=True)
def test_is_known_to_fail(): assert False
"""
MODULE = "import pytest\npytest.skip('needs another thing', allow_module_level=True)\n"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers = root: x\naddopts = -p no:benchmark -p no:timeout -ra\n")
    pytester.makepyfile(test_some=TESTS, test_module=MODULE)
    return pytester


def test_a_skip_is_told_with_its_reason(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEP_REQUIRE_ALL", raising=False)
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines_random(["SKIPPED*needs a thing", "SKIPPED*needs another thing"])


def test_in_ci_a_skip_is_a_failure_and_an_expected_failure_is_not(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEP_REQUIRE_ALL", "1")
    result = suite.runpytest_subprocess("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, failed=1, errors=1, xfailed=1)
    result.stdout.fnmatch_lines_random(["*needs a thing", "*needs another thing"])
    assert result.ret != 0
