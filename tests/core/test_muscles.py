"""The machine catalogue: the file that is shipped, and what is wrong with one that is refused."""

from pathlib import Path

import pytest

from loadtest.exercise import EXERCISES
from spineloop.settings import Settings, WrongSetting
from streams.core import muscles
from streams.core.errors import Malformed
from streams.core.muscles import Catalogue, Exercise, Norm

SHIPPED = Settings.read({}).machine_catalogue()


def test_the_shipped_file_knows_every_exercise_of_the_simulated_fleet() -> None:
    assert EXERCISES.keys() <= SHIPPED.exercises.keys()
    assert SHIPPED.exercises.keys() - EXERCISES.keys() == {
        "lateral_flexion",
        "hip_extension",
        "hip_flexion",
        "leg_press",
    }


def test_every_muscle_group_works_in_an_exercise_and_every_exercise_trains_one() -> None:
    trained = {name for one in SHIPPED.exercises.values() for name in (*one.muscles, *one.assisting)}
    assert trained == SHIPPED.groups.keys()
    assert all(one.muscles for one in SHIPPED.exercises.values())


def test_the_pairs_are_those_that_are_tracked() -> None:
    by_metric: dict[str, list[str]] = {}
    for pair in SHIPPED.pairs:
        by_metric.setdefault(pair.metric, []).append(pair.id)
    assert by_metric == {
        "ef": ["trunk_ext_flex"],
        "si": ["rotation_lr", "lateral_lr", "hip_lr", "hip_flexion_lr", "leg_press_lr", "row_lr", "press_lr"],
        "ratio": ["hip_ext_flex"],
        "pull_push": ["pull_push"],
    }


def test_the_norms_are_those_of_three_postures() -> None:
    #  Kocjan 2014: sitting 2.1 +- 0.4, kneeling 1.9 +- 0.4, standing 1.1 +- 0.6
    found = {norm.posture: (norm.mean, norm.sd) for norm in SHIPPED.norms}
    assert found == {"sitting": (2.1, 0.4), "kneeling": (1.9, 0.4), "standing": (1.1, 0.6)}


def test_a_model_without_an_entry_has_no_norm() -> None:
    norm = muscles.norm_of(SHIPPED, "trunk_ext_flex", "sim-lumbar")
    assert norm is not None
    assert norm.posture == "sitting"
    assert muscles.norm_of(SHIPPED, "trunk_ext_flex", "lx-2") is None
    assert muscles.norm_of(SHIPPED, "pull_push", "sim-lumbar") is None


@pytest.mark.parametrize(
    ("exercise", "error_pct"),
    [
        (None, 6.0),
        (Exercise(muscles=()), 6.0),
        (Exercise(muscles=(), mode="eccentric"), 8.0),
        (Exercise(muscles=(), mode="isometric"), 5.5),
        (Exercise(muscles=(), mode="isometric", typical_error_pct=4.0), 4.0),
    ],
)
def test_what_was_measured_on_a_machine_counts_before_what_is_usual(
    exercise: Exercise | None, error_pct: float
) -> None:
    machines = Catalogue(exercises={} if exercise is None else {"leg_press": exercise})
    assert muscles.typical_error_pct(machines, "leg_press", 6.0) == error_pct


ROWS = "[exercises.row]\nmuscles = []\n[exercises.press]\nmuscles = []\n"
PAIR = ROWS + '[[pairs]]\nid = "p"\nmetric = "ratio"\na = "row"\nb = "press"\n'
NORM = PAIR + '[[norms]]\npair = "p"\nposture = "sitting"\nmodels = ["m"]\nmean = 2.1\nsource = "x"\nsd = '


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exercise = 1", "unknown field `exercise`"),
        ('[exercises.row]\nmuscles = ["arm"]', "exercises.row: no group 'arm'"),
        ("[exercises.row]\nmuscles = []\ntypical_error_pct = 31", "typical_error_pct"),
        ('[exercises.row]\nmuscles = []\nmode = "slow"', "mode"),
        ("[exercises.Row]\nmuscles = []", "exercises"),
        (ROWS + '[[pairs]]\nid = "p"\nmetric = "ef"\na = "row"\nb = "pull"', "pairs.p: no exercise 'pull'"),
        (ROWS + '[[pairs]]\nid = "p"\nmetric = "si"\na = "row"\nb = "press"', "p: si compares the sides of one"),
        (ROWS + '[[pairs]]\nid = "p"\nmetric = "ef"\na = "row"\nb = "row"', "p: ef compares two exercises"),
        (PAIR + PAIR.removeprefix(ROWS), "pairs: twice 'p'"),
        (NORM + "0", "$.norms[0].sd"),
        (NORM + "0.4\n" + NORM.removeprefix(PAIR) + "0.5", "norms: twice 'p of m'"),
        (NORM.replace('pair = "p"', 'pair = "q"') + "0.4", "norms: no pair 'q'"),
        ("pairs = [", "Invalid value"),
        ("\x00", "Invalid statement"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_key(text: str, said: str) -> None:
    with pytest.raises(Malformed) as wrong:
        muscles.read(text.encode())
    assert wrong.value.reason == "bad_machines"
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(Malformed, match="utf-8"):
        muscles.read(b"\xff\xfe")


def test_a_clinic_names_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "machines.toml"
    file.write_text(NORM + "0.4\n", encoding="utf-8")
    machines = Settings.read({"SPINELOOP_MACHINES": str(file)}).machine_catalogue()
    expected = Norm(pair="p", posture="sitting", models=("m",), mean=2.1, sd=0.4, source="x")
    assert muscles.norm_of(machines, "p", "m") == expected


@pytest.mark.parametrize(("text", "said"), [(NORM + "-1", "bad_machines: .*sd"), (None, "No such file")])
def test_a_setting_that_names_a_wrong_file_is_named_in_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "machines.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(WrongSetting, match=f"^SPINELOOP_MACHINES: .*{said}") as wrong:
        Settings.read({"SPINELOOP_MACHINES": str(file)}).machine_catalogue()
    assert "\n" not in str(wrong.value)
