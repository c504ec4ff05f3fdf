"""docs: what code refers to stands there, what is written from code is current, and no list leaves anything out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from loadtest.bench.__main__ import BENCHES
from spineloop.cli import app
from spineloop.pages import DOCS, PAGES, RULES
from streams.core.catalogue import METRICS
from streams.core.envelope import ENVELOPE
from streams.core.measure import FLAGS_IN_ORDER, INVALID_IN_ORDER
from streams.core.reps import TOLD_ONCE
from streams.core.undefined import Reason
from streams.core.votes import SIGNS

ROOT = Path(__file__).parent.parent
SCIENCE = (DOCS / "science.md").read_text(encoding="utf-8")
ROOMS = ("adaptors", "dashboards", "ingest", "loadtest", "spineloop", "streams", "tests")
SOURCES = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
WRITTEN = [ROOT / "README.md", *DOCS.rglob("*.md"), *SOURCES]

HEADINGS = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", SCIENCE, re.MULTILINE))

NUMBERS = r"\d+(?:\.\d+)?(?:(?:-|, | and )\d+(?:\.\d+)?)*"
SECTIONS = re.compile(rf"science\.md\)? (?:sections? )?({NUMBERS})|\bsections? ({NUMBERS})")
KEY = re.compile(r"\b[A-Z]\w+(?:-[A-Z]\w+)* (?:19|20)\d\d[ab]?\b")
NAME = re.compile(r"`([a-z]\w{2,}(?:\.\w+)*)`")


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


def referred(text: str) -> set[str]:
    found = ("".join(groups) for groups in (match.groups("") for match in SECTIONS.finditer(text)))
    return {number for numbers in found for number in spelt_out(numbers)}


def section(number: str) -> str:
    """Return the text under one heading of docs/science.md, up to the next one."""
    mark = "###" if "." in number else "##"
    _, found, rest = SCIENCE.partition(f"\n{mark} {number}{'' if '.' in number else '.'} ")
    assert found
    return re.split(r"^#{2,3} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


REFERRING = [file for file in WRITTEN if "science.md" in read(file) and file != Path(__file__)]


@pytest.mark.parametrize("file", REFERRING, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_refers_to_sections_that_exist(file: Path) -> None:
    assert referred(read(file)) <= HEADINGS


def test_references_are_understood() -> None:
    #  the pattern must see what people write, or the test above proves nothing
    text = "science.md 2.1-2.3 and 3.5 (see science.md section 7.2; science.md) 7.4 and section 9."
    assert referred(text) == {"2.1", "2.2", "2.3", "3.5", "7.2", "7.4", "9"}
    assert len(REFERRING) >= 10


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_written_from_code_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run scripts/docs"


def test_nothing_is_said_to_be_missing_but_in_the_section_of_gaps() -> None:
    told = SCIENCE.replace(section("10"), "")
    assert not re.search(r"not (?:implemented|used|written) yet", told)


def test_every_section_of_the_catalogue_exists() -> None:
    assert {row.section for row in METRICS} <= HEADINGS


@pytest.mark.parametrize("reason", INVALID_IN_ORDER + FLAGS_IN_ORDER)
def test_every_reason_and_flag_is_a_row_that_explains_it(reason: str) -> None:
    rows = [line for line in section("2.5").splitlines() if line.startswith("| `")]
    assert any(f"`{reason}`" in line.split("|")[1] for line in rows)


@pytest.mark.parametrize("reason", [*get_args(Reason), "scale_mismatch", "open_at_end"])
def test_every_reason_of_an_undefined_metric_is_a_row_that_explains_it(reason: str) -> None:
    rows = [line for line in section("3").splitlines() if line.startswith("| `")]
    assert any(f"`{reason}`" in line.split("|")[1] for line in rows)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_spoken_of(rule: Any) -> None:
    assert re.search(rf"\*\*{rule.priority}\*\* `{rule.id}`", section("7.2").replace("\n ", ""))


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_every_sign_of_fatigue_is_a_row(sign: Any) -> None:
    assert f"\n| `{sign.__name__}` |" in section("4")


def test_every_invariant_has_its_row() -> None:
    found = re.findall(r"^\| \*\*S(\d+)\*\* \|", section("7.4"), re.MULTILINE)
    assert [int(number) for number in found] == list(range(1, 26))


@pytest.mark.parametrize("row", ENVELOPE, ids=lambda row: row.judge.__name__)
def test_every_function_of_the_envelope_stands_beside_its_invariant(row: Any) -> None:
    line = next(line for line in SCIENCE.splitlines() if line.startswith(f"| **{row.id}** |"))
    assert f"`{row.judge.__module__.rpartition('.')[2]}.{row.judge.__name__}`" in line


def keys() -> set[str]:
    """Return every source that is named: by metrics and rules, in this page, in docstrings of the core."""
    tables = [row.source for row in METRICS] + [rule.source for rule in RULES]
    core = [read(file) for file in (ROOT / "streams" / "core").glob("*.py")]
    return {key for text in (*tables, *core, SCIENCE.partition("\n## 11.")[0]) for key in KEY.findall(text)}


@pytest.mark.parametrize("key", sorted(keys()))
def test_every_source_is_listed_in_full(key: str) -> None:
    assert f"\n| {key} | " in section("11")


def test_no_source_is_listed_that_nobody_names() -> None:
    listed = re.findall(r"^\| ([A-Z][^|]*?) \| ", section("11"), re.MULTILINE)
    named = keys() | {row.source for row in METRICS} | {re.sub(r"\s+", " ", SCIENCE.partition("\n## 11.")[0])}
    assert len(listed) >= 40
    assert not [key for key in listed if not any(key in text for text in named)]


PLACES = {"notice": 1, "notice_once": 1, "_notice": 2, "_no_plan": 3}
"""Which argument of what says a notice is its name."""


def notices() -> set[str]:
    """Return the name of every notice of the loop, but those whose name is worked out."""
    names = set[str]()
    for file in (ROOT / "streams" / "core").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                told = [one.value for one in node.keywords if one.arg == "name" and called == "Notice"]
                told += node.args[PLACES[called] : PLACES[called] + 1] if called in PLACES else []
                names |= {one.value for one in told if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return names


WORKED_OUT = {*TOLD_ONCE, "data_hold", "record_complete", "record_incomplete", "front_back_balance", "plateau_review"}


@pytest.mark.parametrize("name", sorted(notices() | WORKED_OUT))
def test_every_notice_is_a_row_for_operators(name: str) -> None:
    _, _, rows = (DOCS / "dashboards.md").read_text(encoding="utf-8").partition("\n## What a notice means\n")
    assert re.search(rf"^\| [^|]*`{name}`[^|]* \|", rows, re.MULTILINE)


def test_notices_are_found_where_they_are_said() -> None:
    #  the walk must see what the code says, or the test above proves nothing
    assert len(notices()) >= 25
    assert {"late", "other_load", "load_proposed", "not_screened", "quarantined"} <= notices()


@pytest.fixture(scope="module")
def known_names() -> set[str]:
    """Every word of the sources, and the name of every file."""
    text = " ".join(file.read_text(encoding="utf-8") for file in SOURCES if file != Path(__file__))
    machines = (ROOT / "streams" / "machines.toml").read_text(encoding="utf-8")
    return set(re.findall(r"\w+", text)) | set(re.findall(r"\w+", machines)) | {file.stem for file in SOURCES}


@pytest.mark.parametrize("name", ["science.md", "architecture.md"])
def test_every_name_in_the_text_exists(name: str, known_names: set[str]) -> None:
    words = {word for told in NAME.findall((DOCS / name).read_text(encoding="utf-8")) for word in told.split(".")}
    assert len(words) >= 10
    assert words - {"py", "md", "toml", "sh"} <= known_names


# --- commands


def typed() -> Iterator[tuple[str, str]]:
    """Return every call of ours that a page shows, in blocks and in the text, with the page."""
    for file in (ROOT / "README.md", *DOCS.rglob("*.md")):
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        shown = [*re.findall(r"^(?:\$ )?((?:spineloop|scripts/\w+)\b(?!:).*)$", text, re.MULTILINE)]
        shown += re.findall(r"`((?:spineloop|scripts/\w+) [^`\n]*)`", text)
        for line in shown:
            yield file.name, re.split(r"  +#| &$| #", line)[0].strip()


TYPED = sorted(set(typed()))


@pytest.mark.parametrize(("page", "line"), TYPED, ids=[f"{page}: {line}" for page, line in TYPED])
def test_every_command_on_a_page_exists_with_its_options(page: str, line: str) -> None:
    name, *words = re.sub(r"\[|\]|…|\.\.\.", " ", line).split()
    if name.startswith("scripts/"):
        assert (ROOT / name).is_file(), page
    if name in {"scripts/bench", "scripts/demo"}:
        known = set(re.findall(r"--[\w-]+", (ROOT / name).read_text(encoding="utf-8"))) | {"--no-page"}
        assert {word for word in words if word.startswith("--")} <= known, page
    if name == "scripts/bench":
        assert {word for word in words if re.fullmatch(r"[a-z][a-z-]+", word)} <= BENCHES.keys(), page
    if name == "spineloop":
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}) or not words or "|" in words[0], (page, words)
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0].rstrip(",") for word in words if word.startswith("--")} <= known, page


def test_commands_are_found_where_they_stand() -> None:
    #  the patterns must see what people write, or the test above proves nothing
    assert len(TYPED) >= 30
    assert ("tour.md", "spineloop replay --data ./data/tour") in TYPED
    assert ("tour.md", "scripts/demo --seconds 40 --machines 12 --seed 7 --data ./data/tour") in TYPED
