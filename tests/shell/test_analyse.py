"""`spineloop analyse` as a person uses it: tables, JSON, CSV, pictures, and one line where nothing can be read."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from loadtest.stack import spineloop
from spineloop import recordings
from spineloop.analyse import Analysis, analyse
from spineloop.cli import app
from spineloop.picture import LONGEST_ROW_S, MOST_ROWS, picture, rows
from spineloop.settings import WrongSetting
from spineloop.whole_file import whole_file
from streams.core.catalogue import OF_REPS
from streams.core.measure import FLAGS_IN_ORDER, INVALID_IN_ORDER
from streams.core.recording import Protocol
from tests.core.recordings import BOTTOM_M, LOAD_N, ROM_M, lift, recorded, tiring

Array = Any
ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "recording.csv"
        path.write_text(text)
        return path

    return to_file


def run(*arguments: object) -> str:
    """Run the command in this process; return what it prints. What it raises is what `main` turns into one line."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def told(*arguments: object) -> Any:
    return json.loads(run("analyse", *arguments, "--json"))


def reasons(found: Any) -> list[tuple[str, ...]]:
    return [tuple(rep["reasons"]) for rep in found["reps"]]


def names(found: Any) -> set[str]:
    return {notice["name"] for notice in found["notices"]}


def test_a_tiring_set_is_told_rep_by_rep_and_as_a_whole(write: Callable[[str], Path]) -> None:
    set_ = tiring(8)
    found = told(write(set_.csv()), "--load-n", LOAD_N, "--intent", "max", "--exercise", "seated-row")
    assert [rep["valid"] for rep in found["reps"]] == [True] * 8
    assert [rep["start_s"] for rep in found["reps"]] == pytest.approx(set_.starts_s, abs=0.03)
    velocities = [truth.mean_velocity for truth in set_.truths]
    losses = [100.0 * (1.0 - v / velocities[0]) for v in velocities]
    for name in ("velocity_loss_pct", "velocity_loss_online_pct"):
        assert [rep[name] for rep in found["reps"]] == pytest.approx(losses, abs=2.0)
    assert [rep["velocity_loss_robust_pct"] is None for rep in found["reps"]] == [True] * 2 + [False] * 6
    (one,) = found["sets"]
    assert (one["reps"], one["valid_reps"], one["accepted_reps"]) == (8, 8, 8)
    assert one["values"]["velocity_loss_pct"] == pytest.approx(found["reps"][-1]["velocity_loss_pct"], abs=1e-6)
    tul_s = sum(rep["values"]["time_under_load_s"] for rep in found["reps"])
    assert one["values"]["time_under_load_s"] >= tul_s - 1e-6
    assert one["window_is_prescribed"] is False
    assert (found["recording"]["exercise"], found["recording"]["fs_hz"]) == ("seated_row", 100.0)
    assert found["notices"] == []


def test_in_a_paced_set_nobody_speaks_of_velocity_loss(write: Callable[[str], Path]) -> None:
    found = told(write(tiring(4).csv()), "--intent", "paced", "--tempo", 1, 0.3, 1.4, "--load-n", LOAD_N)
    assert {rep["velocity_loss_pct"] for rep in found["reps"]} == {None}
    assert found["sets"][0]["undefined"]["velocity_loss_pct"] == "wrong_intent"
    assert all("tempo_error_pct" in rep["values"] for rep in found["reps"])
    assert all(rep["undefined"]["rom_completeness_pct"] == "no_reference" for rep in found["reps"])


def test_every_metric_has_a_value_or_a_reason(write: Callable[[str], Path]) -> None:
    found = told(write(recorded(lift(), lift(rom=0.1), seed=1).csv()))
    for rep in found["reps"]:
        assert set(rep["values"]) | set(rep["undefined"]) >= {row.name for row in OF_REPS}
        assert not set(rep["values"]) & set(rep["undefined"])


def test_one_set_may_be_asked_for_and_one_that_is_not_there_is_one_line(write: Callable[[str], Path]) -> None:
    path = write(recorded(lift(), lift(), rest_s=40.0).csv())
    found = told(path, "--set", 2)
    assert [(rep["set"], rep["rep"]) for rep in found["reps"]] == [(2, 1)]
    assert [one["set"] for one in found["sets"]] == [2]
    with pytest.raises(WrongSetting, match="--set: there is no set 7, only 1, 2"):
        run("analyse", path, "--set", 7)


def test_sides_are_summarised_apart(write: Callable[[str], Path]) -> None:
    set_ = recorded(*[lift(rom=rom) for rom in (0.45, 0.40, 0.45, 0.40)])
    side = np.where(np.digitize(set_.t_s, np.array(set_.starts_s[1:]) - 0.7) % 2 == 0, "left", "right")
    text = set_.csv().splitlines()
    path = write("\n".join([text[0] + ",side", *map(",".join, zip(text[1:], side, strict=True))]))
    found = told(path, "--load-n", LOAD_N)
    assert [rep["side"] for rep in found["reps"]] == ["left", "right"] * 2
    assert [(one["set"], one["side"], one["reps"]) for one in found["sets"]] == [(1, "left", 2), (1, "right", 2)]
    assert "right" in run("analyse", path)


def test_the_table_names_every_definition_and_every_reason(write: Callable[[str], Path]) -> None:
    shown = run("analyse", write(recorded(*[lift()] * 4, lift(rom=0.1)).csv()), "--load-n", LOAD_N, "--intent", "max")
    for part in (
        "best to last",
        "best to last two",
        "VL3, decides",
        "rejected: below_min_rom",
        "accepted",
        "ROM",
        "mm",
    ):
        assert part in shown


def test_the_csv_has_a_row_for_each_rep_and_a_column_for_each_metric(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    source = write(tiring(4).csv())
    run("analyse", source, "--csv", out, "--load-n", LOAD_N)
    found = told(source, "--load-n", LOAD_N)
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["mean_velocity"]) for row in table] == [rep["values"]["mean_velocity"] for rep in found["reps"]]
    assert {row.name for row in OF_REPS} < set(table[0])
    assert {row["rom_completeness_pct"] for row in table} == {""}


@pytest.mark.parametrize("option", ["--csv", "--picture"])
def test_a_result_that_cannot_be_finished_leaves_the_one_that_was_there(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    out = tmp_path / "out.svg"
    out.write_text("of yesterday")

    def full(_analysis: object, *rest: Any) -> None:
        path = next(one for one in rest if isinstance(one, Path))
        path.write_text("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spineloop.analyse.write_csv", full)
    monkeypatch.setattr("spineloop.picture.draw", full)
    with pytest.raises(recordings.Failed, match=r"^not written: No space left on device$"):
        run("analyse", write(tiring(4).csv()), option, out)
    assert (out.read_text(), [path.name for path in tmp_path.glob(".*")]) == ("of yesterday", [])


@pytest.mark.parametrize("name", ["recording.csv", "same.csv"])
def test_a_recording_is_not_written_over_with_what_is_told_of_it(
    write: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    text = tiring(4).csv()
    source = write(text)
    (tmp_path / "same.csv").symlink_to(source)
    with pytest.raises(WrongSetting, match=r"^--csv: .* is the recording itself"):
        run("analyse", source, "--csv", tmp_path / name)
    assert source.read_text() == text


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for place in (Path("/dev/null"), link):
        with whole_file(place) as file:
            file.write_text("told")
    assert (Path("/dev/null").is_char_device(), link.is_symlink(), target.read_text()) == (True, True, "told")


# what is wrong with recordings: a stated reason, and an end in good order


WHOLE = recorded(*[lift()] * 4, seed=2)
KEEP = np.ones(len(WHOLE.t_s), np.bool_)


def without(ms: int) -> Array:
    keep = KEEP.copy()
    first = round((WHOLE.starts_s[1] + 0.3) * 100)
    keep[first : first + ms // 10] = False
    return keep


def spiked() -> Array:
    position = WHOLE.position.copy()
    position[round((WHOLE.starts_s[1] + 0.3) * 100)] = 3.0
    return position


def late() -> Array:
    return np.maximum.accumulate(WHOLE.t_s + np.minimum(np.random.default_rng(1).exponential(0.004, len(KEEP)), 0.035))


def holed() -> Array:
    force = WHOLE.force.copy()
    force[round((WHOLE.starts_s[2] + 0.3) * 100) :][:30] = np.nan
    return force


@pytest.mark.parametrize(
    ("text", "options", "expected", "noticed"),
    [
        ("t_s,force_N,position_m\n0.00,1,0.1\n0.01,1,0.1\n", (), [], {"no_movement", "load_unknown"}),
        (WHOLE.csv(position_m=np.full(len(KEEP), 0.2)), (), [], {"no_movement"}),
        (WHOLE.csv(force_N=np.zeros(len(KEEP))), ("--load-n", 400), [("unloaded",)] * 4, set()),
        (WHOLE.csv(force_N=np.zeros(len(KEEP))), (), [()] * 4, {"no_force"}),
        (WHOLE.csv(position_m=-WHOLE.position), (), [("sign_mismatch",)] * 4, {"sign_mismatch"}),
        (WHOLE.csv(position_m=-WHOLE.position), ("--concentric-sign", -1), [()] * 4, set()),
        (WHOLE.csv(), ("--window", BOTTOM_M, BOTTOM_M + 2.0 * ROM_M), [("partial_rom",)] * 4, set()),
        (WHOLE.csv(without(50)), (), [()] * 4, {"gaps"}),
        (WHOLE.csv(without(500)), (), [(), ("gap_over_100ms",), (), ()], {"gaps"}),
        (WHOLE.csv(t_s=late()), (), [()] * 4, {"jitter"}),
        (WHOLE.csv(position_m=spiked()), (), [()] * 4, {"spikes"}),
        (WHOLE.csv(force_N=np.minimum(WHOLE.force, 470.0)), (), [()] * 4, {"plateau"}),
        (
            WHOLE.csv(force_N=np.minimum(WHOLE.force, 470.0)),
            ("--force-limit", 470),
            [("saturated",)] * 4,
            {"plateau"},
        ),
        (WHOLE.csv(force_N=holed()), (), [(), (), ("gap_over_100ms",), ()], {"missing_samples"}),
        (WHOLE.csv(WHOLE.t_s < WHOLE.starts_s[3] + 1.2), (), [()] * 3 + [("open_at_end",)], set()),
    ],
    ids=[
        "two samples", "constant", "no force", "no force, no load", "sign", "sign turned", "half range", "50 ms",
        "500 ms", "late stamps", "spike", "plateau", "plateau at the limit", "empty cells", "ends within a rep",
    ],
)  # fmt: skip
def test_every_flaw_has_its_reason(
    write: Callable[[str], Path], text: str, options: tuple[object, ...], expected: Any, noticed: set[str]
) -> None:
    path = write(text)
    found = told(path, *options)
    assert reasons(found) == expected
    assert noticed <= names(found)
    shown = run("analyse", path, *options)
    assert all(reason in shown for rep in expected for reason in rep)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("t_s,force_N,position_m\n0,1,x\n1,1,2\n", "line 2, column position_m: 'x' is not a number"),
        ("t_s,force_N,position_m\n0,1,2\n1,1,2\n", "1 rows a second are too few"),
        ("t_s,force_N,position_m\n0,1,\n0.01,1,\n", "no row has a position"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(
    write: Callable[[str], Path], text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(recordings.Failed) as failed:
        run("analyse", path)
    assert str(failed.value).startswith(f"{path}: {message}")


def test_the_process_ends_with_1_and_one_line(write: Callable[[str], Path], tmp_path: Path) -> None:
    for path in (write(""), tmp_path / "none.csv"):
        done = subprocess.run(spineloop("analyse", str(path)), capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"spineloop: {path}: ")


@pytest.mark.parametrize(("encoding", "name"), [("ascii", "Übung.csv"), ("cp1252", "упражнение.csv")])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_terminal_that_lacks_a_letter_gets_the_table_all_the_same(
    write: Callable[[str], Path], encoding: str, name: str, options: tuple[str, ...]
) -> None:
    source = write(tiring(4).csv())
    path = source.rename(source.with_name(name))
    told = os.environ | {"PYTHONIOENCODING": encoding}
    words = spineloop("analyse", str(path), *options)
    done = subprocess.run(words, capture_output=True, check=False, timeout=60, env=told)
    assert (done.returncode, done.stderr) == (0, b"")
    if options:
        assert json.loads(done.stdout)["recording"]["file"] == str(path)


@pytest.mark.parametrize(
    "options",
    [
        ("--window", 0.5, 0.1),
        ("--tempo", -1, 0, 1),
        ("--load-n", 0),
        ("--load-n", "nan"),
        ("--concentric-sign", 0),
        ("--exercise", "No Such Name"),
        ("--picture", "picture.jpeg"),
    ],
)
def test_a_wrong_option_is_named(write: Callable[[str], Path], options: tuple[object, ...]) -> None:
    with pytest.raises(WrongSetting, match=str(options[0])):
        run("analyse", write(WHOLE.csv()), *options)


def test_the_page_says_what_every_reason_and_every_notice_means() -> None:
    page = (ROOT / "docs" / "recordings.md").read_text(encoding="utf-8")
    sources = [ROOT / "streams" / "core" / name for name in ("recording.py", "excursions.py", "oddities.py")]
    told_of = {name for file in sources for name in re.findall(r'Notice\(\s*"(\w+)"', file.read_text(encoding="utf-8"))}
    assert len(told_of) >= 12
    for name in {*told_of, *INVALID_IN_ORDER, *FLAGS_IN_ORDER}:
        assert f"`{name}`" in page


# the picture


def analysis_of(text_of: Any, protocol: Protocol) -> tuple[Analysis, Any]:
    return analyse("recording.csv", text_of.columns(), protocol)


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("intent", ["max", "paced"])
def test_the_same_recording_gives_the_same_picture(
    write: Callable[[str], Path], tmp_path: Path, suffix: str, intent: str
) -> None:
    path = write(WHOLE.csv(without(500)))
    first, again = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
    for out in (first, again):
        run("analyse", path, "--intent", intent, "--picture", out)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


@pytest.mark.parametrize("options", [(), ("--window", BOTTOM_M, 0.5, "--tempo", 1, 1, 1, "--intent", "paced")])
def test_a_recording_without_a_valid_rep_has_a_picture_too(
    write: Callable[[str], Path], tmp_path: Path, options: tuple[object, ...]
) -> None:
    flat = WHOLE.csv(position_m=np.full(len(KEEP), 0.2))
    run("analyse", write(flat), *options, "--picture", tmp_path / "out.png")
    run("analyse", write(WHOLE.csv(force_N=np.zeros(len(KEEP)))), "--load-n", 400, "--picture", tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 1_000


def test_rows_cut_no_repetition_leave_rests_out_and_are_bounded() -> None:
    analysis, cuts = analysis_of(recorded(*[lift()] * 45, rest_s=1.0), Protocol())
    made = rows(analysis, 0.0, 1e6)
    assert [rep.rep for row in made for rep in row.reps] == list(range(1, 46))
    assert all(row.start_s < rep.start_s and rep.end_s < row.end_s for row in made for rep in row.reps)
    assert all(row.end_s - row.start_s <= LONGEST_ROW_S + 5.0 for row in made)
    analysis, cuts = analysis_of(recorded(*[lift()] * 30, rest_s=31.0), Protocol())
    assert len(rows(analysis, 0.0, 1e6)) == 30
    assert len(picture(analysis, cuts).axes) == 2 * MOST_ROWS + 2


def test_who_draws_nothing_does_not_wait_for_the_library_that_draws() -> None:
    code = "import sys, spineloop.cli; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
