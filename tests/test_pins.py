"""The lock files, and that the check of them finds what would be wrong with them."""

import pytest

from loadtest import pins

HASH = f" --hash=sha256:{64 * 'a'}"
PROJECT = """
[build-system]
requires = ["setuptools>=77,<85"]
[project]
dependencies = ["aiohttp>=3,<4"]
[project.optional-dependencies]
dev = ["ruff>=1,<2"]
bench = ["quixstreams>=3,<4"]
"""
BUILD = f"setuptools==84.2.1{HASH}\n"
EXTRAS = f"ruff==1.5{HASH}\nquixstreams==3.2{HASH}\n{BUILD}"
GOOD = f"aiohttp==3.14.5 \\\n   {HASH}\n    # via spineloop\n"


def findings(run: str = GOOD, dev: str = "", project: str = PROJECT, build: str = BUILD, **installed: str) -> list[str]:
    locks = {pins.BUILD: build, pins.RUN: run, pins.TESTED: dev or f"{run}{EXTRAS}"}
    return pins.findings(project, locks, installed)


def test_the_lock_files_of_this_checkout_are_whole() -> None:
    assert pins.main() == 0


def test_what_is_pinned_with_hashes_is_in_order() -> None:
    assert findings(aiohttp="3.14.5") == []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("aiohttp>=3\n", "aiohttp>=3: not pinned to one version"),
        ("aiohttp==3.*" + HASH, "aiohttp==3.*: not pinned to one version"),
        ("aiohttp==3.14.5\n", "aiohttp: no hash"),
        ("aiohttp==2.0" + HASH, "aiohttp<4,>=3: the lock has 2.0"),
        (GOOD + "--extra-index-url https://example.org/simple\n", "--extra-index-url: comes from elsewhere"),
        (GOOD + "x @ https://example.org/x.whl\n", "x: comes from elsewhere"),
        (GOOD + "-e .\n", "-e: comes from elsewhere"),
    ],
)
def test_what_is_not_is_named(run: str, said: str) -> None:
    assert any(said in one for one in findings(run)), findings(run)


def test_two_locks_that_differ_and_an_environment_that_is_another_are_named() -> None:
    other = GOOD.replace("3.14.5", "3.14.4") + EXTRAS
    assert findings(dev=other) == ["aiohttp is 3.14.5 in requirements.lock and 3.14.4 in requirements-dev.lock"]
    assert findings(aiohttp="3.13.0") == ["aiohttp is 3.13.0 here and 3.14.5 in the lock: run scripts/venv --dev"]


def test_what_builds_our_own_package_is_pinned_too() -> None:
    assert findings(build=f"setuptools==76.0{HASH}\n") == [
        "requirements-build.lock: setuptools<85,>=77: the lock has 76.0",
        "setuptools is 76.0 in requirements-build.lock and 84.2.1 in requirements-dev.lock",
    ]


def test_what_is_only_measured_is_pinned_too() -> None:
    assert findings(dev=f"{GOOD}ruff==1.5{HASH}\n{BUILD}") == [
        "requirements-dev.lock: quixstreams<4,>=3: not in the lock"
    ]


def test_a_dependency_without_an_upper_bound_is_named() -> None:
    assert "requirements.lock: aiohttp>=3: no upper bound" in findings(project=PROJECT.replace(",<4", ""))
