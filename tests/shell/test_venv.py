"""The script that makes the environment, with one in a folder of somebody else's."""

import os
import subprocess
from pathlib import Path
from shutil import copy

import pytest

VENV = Path(__file__).parents[2] / "scripts" / "venv"
OLD = """#!/bin/sh
case $2 in *print*) echo 3.9 ;; *) exit 1 ;; esac
"""


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    scripts = folder / "scripts"
    scripts.mkdir(parents=True)
    copy(VENV, scripts)
    told = os.environ | environment
    return subprocess.run([scripts / "venv"], env=told, capture_output=True, text=True, check=False, timeout=60)


def test_an_environment_that_is_a_link_into_another_folder_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "bin").mkdir(parents=True)
    kept = [theirs / "bin" / "spineloop", theirs / "made-of-dev"]
    for file in kept:
        file.write_text("theirs", encoding="utf-8")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / ".venv").symlink_to(theirs)
    done = run(tmp_path / "ours")
    assert (done.returncode, [file.is_file() for file in kept]) == (1, [True, True])
    assert done.stderr.splitlines()[-1].startswith(f"scripts/venv: .venv is a link to {theirs}, ")


@pytest.mark.parametrize(
    ("text", "why"), [(None, "is needed, 3.11 or newer"), (OLD, "is 3.9; 3.11 or newer is needed")]
)
def test_a_python_that_will_not_do_is_told_in_one_line(tmp_path: Path, text: str | None, why: str) -> None:
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text, encoding="utf-8")
        python.chmod(0o755)
    done = run(tmp_path / "ours", PYTHON=str(python))
    assert (done.returncode, done.stderr) == (1, f"scripts/venv: {python} {why}\n")
    assert not (tmp_path / "ours" / ".venv").exists()
