"""The pages that people follow, followed: each command of the tour and of the page on replay, as it stands there."""

import asyncio
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from adaptors.sqlite_log import open_sqlite_log
from ingest.arrival import to_dead_letter
from spineloop.embedded import PARTITIONS
from spineloop.pages import DOCS
from spineloop.wiring import wall_clock_ms
from streams.core import codec
from streams.core.errors import Malformed
from streams.core.telemetry import Heartbeat
from tests.core.recordings import tiring

pytestmark = pytest.mark.stack

ROOT = DOCS.parent
SHORTER = ("--seconds 40", "--seconds 20 --report report.json")
"""The demo of the tour, shorter here, and with its figures to look at."""

Blocks = Mapping[str, list[str]]
"""Commands to be given at once, by heading."""


class Done(NamedTuple):
    """What one block came to."""

    code: int
    out: str
    err: str


def blocks(page: str) -> Blocks:
    """Return what a page asks its reader to type, by heading."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        found[part.partition("\n")[0]] = re.findall(r"^```sh\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
    return found


TOUR = blocks((DOCS / "tour.md").read_text(encoding="utf-8"))
REPLAY = re.findall(r"^\$ (spineloop .*)$", (DOCS / "replay.md").read_text(encoding="utf-8"), re.MULTILINE)


def typed(commands: str, folder: Path) -> Done:
    """Type commands in a shell as a reader has it after step 2; it ends with the first that fails."""
    script = f"set -e\nsource .venv/bin/activate\n{commands}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=300, env=BARE
    )
    return Done(done.returncode, done.stdout, done.stderr)


BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "COLUMNS": "160", "LC_ALL": "C.UTF-8"}  # noqa: S108 - nobody writes there


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder that is a clone as far as the pages go: its data and files are nobody else's."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "scripts").mkdir()
    demo = folder / "scripts" / "demo"
    demo.write_text(f'#!/bin/sh\nexec "{ROOT}/scripts/demo" "$@"\n', encoding="utf-8")
    demo.chmod(0o755)
    (folder / "recording.csv").write_text(tiring().csv(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def toured(clone: Path) -> Mapping[str, list[Done]]:
    """Take the tour from its first to its last command."""
    assert SHORTER[0] in TOUR["1. Run the loop (1 minute)"][0]
    return {
        heading: [typed(block.replace(*SHORTER), clone) for block in commands] for heading, commands in TOUR.items()
    }


def test_the_demo_of_the_tour_loses_nothing_doubles_no_effect_and_says_so(
    toured: Mapping[str, list[Done]], clone: Path
) -> None:
    (done,) = toured["1. Run the loop (1 minute)"]
    assert done.code == 0, done
    assert "operator page: http://127.0.0.1:" in done.out
    told = msgspec.json.decode((clone / "report.json").read_bytes())
    assert (told["lost"], told["duplicate_effects"], told["dead_letters"]) == (0, 0, 0)
    assert told["reps_stored"] == told["reps_published"] > 50
    ended = told["commands_applied"] + told["commands_rejected"] + told["commands_expired"]
    assert told["commands_issued"] == ended + told["commands_open"] > 5
    assert told["commands_applied"] > 5
    assert "duplicate effects" in done.out
    assert (clone / "data" / "tour" / "log.db").exists()


def test_a_replay_of_the_whole_demo_has_the_digest_of_the_live_run_each_time(
    toured: Mapping[str, list[Done]], clone: Path
) -> None:
    live = msgspec.json.decode((clone / "report.json").read_bytes())["digest"]
    assert f"digest {live}\n" in toured["1. Run the loop (1 minute)"][0].out
    (looked,) = toured["2. Look at what was said"]
    assert looked.code == 0, looked
    assert "the log says the same, byte for byte" in looked.out
    assert f"digest {live}\n" in looked.out
    again = typed("spineloop replay --data ./data/tour --json", clone)
    told = msgspec.json.decode(again.out)
    assert (told["digest"], told["log"]["differing"], told["letters"]) == (live, [], {})
    assert (clone / "reps.parquet").stat().st_size > 1_000


def test_a_stricter_policy_is_tried_on_the_demo_and_one_out_of_bounds_is_one_line(
    toured: Mapping[str, list[Done]], clone: Path
) -> None:
    stricter, wrong = toured["4. Try another policy"]
    assert stricter.code == 0, stricter
    for words in ("vl_stop_pct: 20.0 -> 15.0", "form_cut_pct: 5.0 -> 10.0", "Per rule", "Per patient"):
        assert words in stricter.out
    (differing,) = re.findall(r"^([\d,]+) decisions differ$", stricter.out, re.MULTILINE)
    assert int(differing.replace(",", "")) > 0
    report = (clone / "stricter.html").read_text(encoding="utf-8")
    assert "velocity_loss_stop" in report
    assert "demo/p00" in report
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err == "spineloop: --policy: wrong.toml: vl_stop_pct: Expected `float` >= 15.0\n"


def test_a_recording_is_measured_and_drawn(toured: Mapping[str, list[Done]], clone: Path) -> None:
    (done,) = toured["5. Measure a recording of your own"]
    assert done.code == 0, done
    assert len(re.findall(r"^.*\d.*\baccepted\b", done.out, re.MULTILINE)) >= 8
    assert "rejected" not in done.out
    assert (clone / "recording.png").stat().st_size > 10_000


def test_every_step_of_the_tour_is_one_of_these() -> None:
    steps = {heading: len(commands) for heading, commands in TOUR.items() if commands}
    assert list(steps.values()) == [1, 1, 2, 1]
    assert [heading[0] for heading in steps] == ["1", "2", "4", "5"]


# --- The page on replay: the same log, with the two dead letters that it speaks of


@pytest.fixture(scope="module")
def replayed(toured: Mapping[str, list[Done]], clone: Path) -> list[Done]:  # noqa: ARG001 - makes the log
    asyncio.run(_put_letters(clone / "data" / "tour"))
    (clone / "tried.toml").write_text("vl_stop_pct = 25.0   # velocity loss that ends a set\n", encoding="utf-8")
    return [typed(command.replace("./data", "./data/tour"), clone) for command in REPLAY]


async def _put_letters(folder: Path) -> None:
    beat = codec.encode(Heartbeat(boot_id="b1", seq=0, t_us=5), "json")
    topic, now_ms = "spineloop/v1/demo/site-1/lumbar-01/event", wall_clock_ms()
    old = to_dead_letter(_Heard(topic, beat), Malformed("unknown_type", "no"), now_ms)
    dotted = to_dead_letter(_Heard(DOTTED, b"{}"), Malformed("bad_topic", "not"), now_ms)
    async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
        await log.append([old, dotted])


DOTTED = "spineloop/v1/demo/site-1/row.4/event"
"""A topic that the bridge hears, of a machine with a name that is none."""


class _Heard(NamedTuple):
    topic: str
    payload: bytes
    user_properties: tuple[tuple[str, str], ...] = ()


TOLD = (
    ("replay --data", 0, ("the log says the same, byte for byte", "digest ")),
    ("replay --data", 0, ("vl_stop_pct: 20.0 -> 25.0", "decisions differ", "velocity_loss_stop")),
    ("export", 0, ("reps: out/reps.parquet", "sets: out/sets.parquet", "patients: out/patients.parquet")),
    ("dead-letters list", 0, ("0/0", "2/0", "unknown_type", "bad_topic", DOTTED)),
    ("dead-letters redrive 0/0", 0, ("1 went back",)),
    ("dead-letters redrive 0/0", 1, ("0/0 refused: it went back already", "0 went back, 1 refused")),
    ("dead-letters redrive 2/0", 1, ("2/0 refused: it still can't be understood: bad_topic: ", f"'{DOTTED}'")),
)


@pytest.mark.parametrize("number", range(len(TOLD)), ids=lambda number: f"{number} {TOLD[number][0]}")
def test_a_command_of_the_page_on_replay_says_what_stands_there(replayed: list[Done], number: int) -> None:
    what, code, words = TOLD[number]
    assert len(REPLAY) == len(TOLD)
    assert what in REPLAY[number]
    done = replayed[number]
    assert done.code == code, done
    assert [one for one in words if one not in done.out + done.err] == []
