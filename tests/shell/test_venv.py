"""The script that makes the environment, with one in a folder of somebody else's."""

import subprocess
from pathlib import Path
from shutil import copy

VENV = Path(__file__).parents[2] / "scripts" / "venv"


def test_an_environment_that_is_a_link_into_another_folder_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "bin").mkdir(parents=True)
    kept = [theirs / "bin" / "spineloop", theirs / "made-of-dev"]
    for file in kept:
        file.write_text("theirs", encoding="utf-8")
    scripts = tmp_path / "ours" / "scripts"
    scripts.mkdir(parents=True)
    copy(VENV, scripts)
    (tmp_path / "ours" / ".venv").symlink_to(theirs)
    done = subprocess.run([scripts / "venv"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, [file.is_file() for file in kept]) == (1, [True, True])
    assert done.stderr.splitlines()[-1].startswith(f"scripts/venv: .venv is a link to {theirs}, ")
