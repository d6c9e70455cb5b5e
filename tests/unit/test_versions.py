"""Which versions of an orchestration a host runs."""

import pytest

from perdure.core.versions import Versioning, VersionMatch, compare_versions


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1.9", "1.10"), ("1.0", "1.0.0"), ("1.2.3", "2.0"), ("", "0.0"), (None, "a"), ("Alpha", "beta"), ("9", "v1")],
)
def test_the_older_version_comes_first(older, newer):
    assert compare_versions(older, newer) < 0 < compare_versions(newer, older)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0"), ("A", "a"), (None, ""), ("01.2", "1.2")])
def test_versions_that_mean_the_same_are_equal(one, other):
    assert compare_versions(one, other) == 0


def test_a_host_without_a_version_runs_everything():
    assert all(Versioning().accepts(version) for version in (None, "1.0", "99.0"))


def test_by_default_older_versions_run_and_newer_do_not():
    versioning = Versioning("1.10")

    assert versioning.accepts("1.9")
    assert versioning.accepts(None)
    assert not versioning.accepts("2.0")


def test_strictly_only_the_same_version_runs():
    versioning = Versioning("1.0", VersionMatch.STRICT)

    assert versioning.accepts("1.0")
    assert not versioning.accepts("0.9")
    assert "versionMatchStrategy Strict" in versioning.mismatch("0.9")


def test_with_no_matching_everything_runs():
    assert Versioning("1.0", VersionMatch.NONE).accepts("2.0")
