"""Pins: are the lock files what `pip install --require-hashes` needs, and those of pyproject.toml? Needs no network.

What this can't tell is whether a pinned version has become known as vulnerable: that takes a service which knows.
`scripts/audit --known` asks one with pip-audit, where it is installed and reaches it.
"""

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
BUILD, RUN, TESTED = "requirements-build.lock", "requirements.lock", "requirements-dev.lock"
LOCKS: Mapping[str, tuple[str, ...]] = {BUILD: (), RUN: (), TESTED: ("dev", "bench")}
"""Each lock file, and the extras of pyproject.toml that are in it. The first has what builds our own package."""

_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_OTHER_SOURCE = re.compile(
    r"(?:^|\s)(?:-e|--editable|-i|--index-url|--extra-index-url|--find-links|--trusted-host)\b|://"
)


class Pin(msgspec.Struct, frozen=True):
    """One line of a lock file: what it pins, to which version, with how many hashes."""

    name: str
    version: str
    hashes: int


def findings(pyproject: str, locks: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return what is wrong, a line each.

    Parameters
    ----------
    pyproject : str
        Text of pyproject.toml.
    locks : mapping of str to str
        Text of each lock file.
    installed : mapping of str to str
        Versions that this environment has.
    """
    told = tomllib.loads(pyproject)
    found, pinned = list[str](), dict[str, dict[str, Pin]]()
    for file, text in locks.items():
        pins, wrong = read(text)
        pinned[file] = {pin.name: pin for pin in pins}
        found += [f"{file}: {one}" for one in wrong]
        found += [f"{file}: {one}" for one in unmet(_wanted(told, file), pinned[file])]
    found += [one for file in (BUILD, RUN) for one in _disagreements(file, pinned)]
    for pin in pinned[TESTED].values():
        here = installed.get(pin.name, pin.version)
        if Version(here) != Version(pin.version):
            found.append(f"{pin.name} is {here} here and {pin.version} in the lock: run scripts/venv --dev")
    return found


def _wanted(pyproject: Mapping[str, Any], file: str) -> Sequence[str]:
    """Return the requirements that a lock file has to meet."""
    if file == BUILD:
        building: Sequence[str] = pyproject["build-system"]["requires"]
        return building
    project = pyproject["project"]
    return [
        *project["dependencies"],
        *(line for extra in LOCKS[file] for line in project["optional-dependencies"][extra]),
    ]


def read(lock: str) -> tuple[list[Pin], list[str]]:
    """Read a lock file: its pins, and what is no pin.

    Examples
    --------
    >>> read("a==1 --hash=sha256:" + 64 * "0")[0], read("a>=1")[1], read("a==1")[1]
    ([Pin(name='a', version='1', hashes=1)], ['a>=1: not pinned to one version'], ['a: no hash'])
    """
    pins, wrong = list[Pin](), list[str]()
    text = re.sub(r"\\\n", " ", lock)
    for line in (stripped for each in text.splitlines() if (stripped := each.split("#", 1)[0].strip())):
        if _OTHER_SOURCE.search(line):
            wrong.append(f"{line.split()[0]}: comes from elsewhere than the index")
            continue
        try:
            requirement = Requirement(line.split(" --hash", 1)[0])
        except InvalidRequirement:
            wrong.append(f"{line[:60]}: not understood")
            continue
        exact = [one.version for one in requirement.specifier if one.operator == "==" and "*" not in one.version]
        if len(exact) != 1 or len(requirement.specifier) != 1:
            wrong.append(f"{requirement}: not pinned to one version")
            continue
        pin = Pin(canonicalize_name(requirement.name), exact[0], len(_HASH.findall(line)))
        pins.append(pin)
        if not pin.hashes:
            wrong.append(f"{pin.name}: no hash")
    return pins, wrong


def unmet(wanted: Sequence[str], pinned: Mapping[str, Pin]) -> list[str]:
    """Return which requirements of pyproject.toml a lock does not meet, and which have no upper end.

    Examples
    --------
    >>> unmet(["a>=2,<3", "b<2", "c>=1"], {"a": Pin("a", "1.9", 1), "c": Pin("c", "1", 1)})
    ['a<3,>=2: the lock has 1.9', 'b<2: not in the lock', 'c>=1: no upper bound']
    """
    wrong = []
    for requirement in map(Requirement, wanted):
        pin = pinned.get(canonicalize_name(requirement.name))
        if pin is None:
            wrong.append(f"{requirement}: not in the lock")
        elif pin.version not in requirement.specifier:
            wrong.append(f"{requirement}: the lock has {pin.version}")
        if not {"<", "<=", "==", "~="} & {one.operator for one in requirement.specifier}:
            wrong.append(f"{requirement}: no upper bound")
    return wrong


def _disagreements(file: str, pinned: Mapping[str, Mapping[str, Pin]]) -> list[str]:
    """Compare a lock file with that of development: what is run has to be what is tested."""
    tested = pinned[TESTED]
    return [
        f"{name} is {pin.version} in {file} and {other.version if other else 'not'} in {TESTED}"
        for name, pin in pinned[file].items()
        if (other := tested.get(name)) is None or other.version != pin.version
    ]


def main() -> int:
    """Check the files of this checkout; print what is wrong."""
    locks = {file: (ROOT / file).read_text(encoding="utf-8") for file in LOCKS}
    here = {str(canonicalize_name(one.metadata["Name"])): one.version for one in metadata.distributions()}
    found = findings((ROOT / "pyproject.toml").read_text(encoding="utf-8"), locks, here)
    for line in found:
        sys.stderr.write(f"audit: {line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
