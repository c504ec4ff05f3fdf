"""docs/science.md: what code refers to stands there, and no metric, rule, reason, parameter or invariant is missing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from streams.core.catalogue import METRICS
from streams.core.envelope import ENVELOPE
from streams.core.measure import FLAGS_IN_ORDER, INVALID_IN_ORDER
from streams.core.plan_rules import PLAN_RULES
from streams.core.policy import Policy
from streams.core.session_rules import SESSION_RULES

ROOT = Path(__file__).parent.parent
SCIENCE = (ROOT / "docs" / "science.md").read_text(encoding="utf-8")
ROOMS = ("adaptors", "dashboards", "ingest", "loadtest", "spineloop", "streams", "tests")
WRITTEN = [
    ROOT / "README.md",
    *(ROOT / "docs").rglob("*.md"),
    *(file for room in ROOMS for file in (ROOT / room).rglob("*.py")),
]
SOURCES = (
    [row.source for row in METRICS] + [rule.source for rule in SESSION_RULES] + [rule.source for rule in PLAN_RULES]
)

HEADINGS = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", SCIENCE, re.MULTILINE))
ROWS = {int(row) for row in re.findall(r"^\| (\d+) \| `", SCIENCE, re.MULTILINE)}
INVARIANTS = re.findall(r"^\| \*\*S(\d+)\*\* \|", SCIENCE, re.MULTILINE)

NUMBERS = r"\d+(?:\.\d+)?(?:(?:-|, | and )\d+(?:\.\d+)?)*"
SECTIONS = re.compile(rf"science\.md\)? (?:sections? )?({NUMBERS})|\bsections? ({NUMBERS})")
CATALOGUE_ROWS = re.compile(rf"(?:science\.md|catalogue) rows? ({NUMBERS})")


def read(file: Path) -> str:
    """Return a file's text with every stretch of white space, and comment marks within one, as one space."""
    return re.sub(r"\s*\n[\s#]*|\s+", " ", file.read_text(encoding="utf-8"))


def spelt_out(numbers: str) -> Iterator[str]:
    """Return each number of a list, ranges in full: "2.1-2.3, 5" is 2.1, 2.2, 2.3 and 5."""
    for part in re.split(r", | and ", numbers):
        first, _, last = part.partition("-")
        chapter, dot, number = first.rpartition(".")
        stop = int((last or first).rpartition(".")[2])
        yield from (f"{chapter}{dot}{n}" for n in range(int(number), stop + 1))


def referred(pattern: re.Pattern[str], text: str) -> set[str]:
    found = ("".join(groups) for groups in (match.groups("") for match in pattern.finditer(text)))
    return {number for numbers in found for number in spelt_out(numbers)}


REFERRING = [file for file in WRITTEN if "science.md" in read(file) and file != Path(__file__)]


@pytest.mark.parametrize("file", REFERRING, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_refers_to_sections_and_rows_that_exist(file: Path) -> None:
    assert referred(SECTIONS, read(file)) <= HEADINGS
    assert {int(row) for row in referred(CATALOGUE_ROWS, read(file))} <= ROWS


def test_references_are_understood() -> None:
    #  the pattern must see what people write, or the test above proves nothing
    text = "science.md 2.1-2.3 and 3.5, catalogue rows 2-4 (see science.md section 7.2; science.md) 7.4 and section 9."
    assert referred(SECTIONS, text) == {"2.1", "2.2", "2.3", "3.5", "7.2", "7.4", "9"}
    assert referred(CATALOGUE_ROWS, text) == {"2", "3", "4"}
    assert len(REFERRING) >= 10


def test_every_section_of_the_catalogue_exists() -> None:
    assert {row.section for row in METRICS} <= HEADINGS


@pytest.mark.parametrize("row", METRICS, ids=lambda row: f"{row.level}-{row.name}")
def test_every_metric_is_named_in_a_table_of_its_level(row: Any) -> None:
    of_reps, _, of_sets = SCIENCE.partition("\n| row | name | of |")
    told = of_reps if row.level == "rep" else of_sets
    line = next(line for line in told.splitlines() if re.match(rf"\| \d+ \| `{row.name}` \|", line))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if row.level == "rep":
        assert (cells[2], cells[3]) == (row.unit.replace("|", ", "), str(row.decimals))
    else:
        assert row.level in cells[2].split(", ")


@pytest.mark.parametrize("rule", [*SESSION_RULES, *PLAN_RULES], ids=lambda rule: rule.id)
def test_every_rule_is_a_row_with_its_priority(rule: Any) -> None:
    assert f"\n| {rule.priority} | `{rule.id}` |" in SCIENCE


def test_every_invariant_has_its_row_and_the_rows_of_the_envelope_stand_in_their_order() -> None:
    assert [int(number) for number in INVARIANTS] == list(range(1, 25))
    assert ", ".join(row.id for row in ENVELOPE) in SCIENCE.replace("\n", " ")


@pytest.mark.parametrize("row", ENVELOPE, ids=lambda row: row.judge.__name__)
def test_every_function_of_the_envelope_stands_beside_its_invariant(row: Any) -> None:
    line = next(line for line in SCIENCE.splitlines() if line.startswith(f"| **{row.id}** |"))
    assert f"`{row.judge.__module__.rpartition('.')[2]}.{row.judge.__name__}`" in line


@pytest.mark.parametrize("reason", INVALID_IN_ORDER + FLAGS_IN_ORDER)
def test_every_reason_is_named(reason: str) -> None:
    assert f"`{reason}`" in SCIENCE


@pytest.mark.parametrize("parameter", msgspec.structs.fields(Policy), ids=lambda parameter: parameter.name)
def test_every_parameter_stands_with_its_default_its_bounds_and_its_tag(parameter: Any) -> None:
    default = parameter.default if isinstance(parameter.default, tuple) else (parameter.default,)
    annotated = get_type_hints(Policy, include_extras=True)[parameter.name].__metadata__[-1]
    ((values, worth),) = re.findall(rf"`{parameter.name}` ([\d., ]+) \(([^)]*)\)", SCIENCE)
    assert tuple(float(value) for value in values.split(", ")) == default
    assert annotated.extra["tag"] in worth
    if annotated.ge is not None:
        bounds = worth.partition(",")[0].split("-")
        assert [float(bound) for bound in bounds] == [annotated.ge, annotated.le]


@pytest.mark.parametrize("key", sorted({key for source in SOURCES for key in re.findall(r"[A-Z][\w-]+ \d{4}", source)}))
def test_every_source_is_listed_in_full(key: str) -> None:
    assert f"\n| {key} | " in SCIENCE
