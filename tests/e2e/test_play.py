"""`spineloop play`: a recording spoken as a machine speaks; the log then holds the numbers that `analyse` prints."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest import native
from loadtest.oracle import everything, until
from loadtest.stack import spineloop
from spineloop import embedded, retold, wiring
from spineloop.demo import running
from spineloop.embedded import Embedded, Embedding
from spineloop.exposition import Exposition
from spineloop.play import REFUSAL, Player
from spineloop.retold import Teller
from spineloop.settings import Settings
from streams.core import codec, excursions
from streams.core.commands import Command
from streams.core.recording import Protocol
from streams.core.records import NewRecord, cloud_event
from streams.core.telemetry import CommandRejected, Heartbeat, Offline, Online, Rep, SessionEnded, SetEnded, Telemetry
from streams.core.topics import COMMAND, METRIC, TELEMETRY
from tests.core.recordings import BOTTOM_M, LOAD_N, ROM_M, Recorded, lift, recorded

MACHINE, PATIENT = "acme/north/m1", "acme/p1"
TOLD = Recorded(
    *recorded(*(lift(concentric_s=0.7 + 0.06 * n) for n in range(5)), lift(rom=0.1), lift(rom=0.24), seed=1)
)
PROTOCOL = ("--load-n", str(LOAD_N), "--intent", "max")
WINDOW = ("--window", str(BOTTOM_M), str(BOTTOM_M + ROM_M))


def loop_in(folder: Path) -> Any:
    embedding = Embedding(data=folder, port=native.free_port())
    settings = Settings.read({"SPINELOOP_CHECKPOINT_S": "0.01", "SPINELOOP_HTTP_PORT": "0"})
    return embedded.opened(settings, embedding, Exposition())


async def spoken(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *spineloop(*arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120.0)
    return process.returncode or 0, out.decode(), err.decode()


async def metrics(loop: Embedded, kind: str) -> list[dict[str, Any]]:
    found = [
        msgspec.to_builtins(codec.decode_metric(record.value or b"")) for record in await everything(loop.log, METRIC)
    ]
    return [one for one in found if one["type"] == kind]


async def telemetry(loop: Embedded) -> list[Telemetry]:
    records = await everything(loop.log, TELEMETRY)
    return [codec.decode_telemetry(MACHINE, record.value or b"") for record in records]  # type: ignore[misc]


def settled(loop: Embedded, kind: str, count: int) -> Callable[[], Any]:
    async def has_come() -> bool:
        return len(await metrics(loop, kind)) == count

    return has_come


@pytest.mark.parametrize("window", [(), WINDOW], ids=["no window", "window"])
async def test_the_log_holds_the_numbers_that_analyse_prints(tmp_path: Path, window: tuple[str, ...]) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(TOLD.csv())
    options = (str(path), *PROTOCOL, *window)
    _, out, _ = await spoken("analyse", *options, "--json")
    analysed = json.loads(out)
    async with loop_in(tmp_path / "data") as loop, running(loop.roles):
        code, said, err = await spoken(
            "play",
            *options,
            "--mqtt",
            loop.settings.mqtt_url,
            "--machine",
            MACHINE,
            "--patient",
            PATIENT,
            "--speed",
            "200",
        )
        assert (code, err) == (0, "")
        assert said.startswith("played 7 reps in 1 sets as acme/north/m1, boot play-")
        await until(settled(loop, "session_summarised", 1))
        reps, sets = await metrics(loop, "rep_measured"), await metrics(loop, "set_summarised")
        heard = await telemetry(loop)
    asked = "rom_completeness_pct"  # without a window, the set's own range is on the wire, and nobody asked for it
    for rep, live in zip(analysed["reps"], reps, strict=True):
        left_out = {asked} if not window else set()
        assert (rep["rep"], rep["valid"]) == (live["rep_number"], live["valid"])
        assert rep["values"] == {name: value for name, value in live["values"].items() if name not in left_out}
        assert rep["reasons"] == [why for why in live["reasons"] if window or why != "partial_rom"]
        assert live["patient"] == PATIENT
    (one,), (summary,) = analysed["sets"], sets
    assert (one["values"], one["undefined"]) == (summary["values"], summary["undefined"])
    assert (one["reps"], one["valid_reps"]) == (summary["reps"], summary["valid_reps"])
    assert summary["incomplete"] is False
    kinds = [type(message) for message in heard]
    assert (kinds[0], kinds[-1]) == (Online, Offline)
    assert kinds.index(SetEnded) < kinds.index(SessionEnded)
    assert kinds.count(Heartbeat) == int(TOLD.t_s[-1] // 5.0)
    ordered = [message for message in heard if not isinstance(message, Online | Offline)]
    assert [message.seq for message in ordered] == list(range(len(ordered)))
    assert [message.t_us for message in ordered] == sorted(message.t_us for message in ordered)


async def test_a_repetition_is_said_half_a_second_after_its_end() -> None:
    cuts = excursions.cut(TOLD.columns(), Protocol(load_N=LOAD_N))
    said = retold.session(cuts, cuts.reps, Protocol(load_N=LOAD_N), Teller())
    reps = [message for message in said if isinstance(message, Rep)]
    for rep, start_s, truth in zip(reps, TOLD.starts_s, TOLD.truths, strict=True):
        end_s = start_s + (truth.marks[3] - truth.marks[0]) / 100.0
        assert rep.t_us * 1e-6 == pytest.approx(end_s + 0.5, abs=0.06)


async def test_a_command_is_refused_because_a_recording_obeys_nobody(tmp_path: Path) -> None:
    async with loop_in(tmp_path) as loop, running(loop.roles):
        cuts = excursions.cut(TOLD.columns(), Protocol(load_N=LOAD_N))
        teller = Teller(machine=MACHINE, boot_id="b1", patient=PATIENT, session="s1")
        said = retold.session(cuts, cuts.reps, Protocol(load_N=LOAD_N), teller)
        capabilities = retold.capabilities(cuts, Protocol(load_N=LOAD_N))
        player: Player[Any] = Player(teller, capabilities, wiring.machine_connect(loop.settings), 10.0)
        sent = asyncio.Event()

        def after_the_first(_: object) -> None:
            sent.set()

        async def command() -> None:
            await sent.wait()
            await loop.log.append([_stop()])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(command())
            playing = tasks.create_task(player.run(said, after_the_first))
        played = playing.result()
        await until(settled(loop, "session_summarised", 1))
        refusals = [message for message in await telemetry(loop) if isinstance(message, CommandRejected)]
    assert played.refused == len(refusals) == 1
    assert (refusals[0].command_id, refusals[0].reason) == ("stop-1", REFUSAL)


def _stop() -> NewRecord:
    now_ms = wiring.wall_clock_ms()
    command = Command(
        command_id="stop-1",
        machine=MACHINE,
        boot_id="b1",
        action="stop",
        rule="test",
        cause="test",
        session="s1",
        sequence=1,
        issued_ms=now_ms,
        expires_ms=now_ms + 60_000,
        evidence=(),
        policy="test",
    )
    headers = cloud_event(
        ce_id="stop-1",
        ce_type=codec.ce_type(command),
        source=MACHINE,
        time_ms=now_ms,
        content_type=codec.CONTENT_TYPE["msgpack"],
    )
    return NewRecord(COMMAND, MACHINE.encode(), codec.encode(command), now_ms, headers)


async def test_the_same_boot_played_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(TOLD.csv())
    async with loop_in(tmp_path / "data") as loop, running(loop.roles):
        arguments = (
            "play",
            str(path),
            *PROTOCOL,
            "--mqtt",
            loop.settings.mqtt_url,
            "--machine",
            MACHINE,
            "--speed",
            "500",
        )
        for boot in ("b1", "b1", "b2"):
            assert (await spoken(*arguments, "--boot", boot))[0] == 0
        await until(settled(loop, "session_summarised", 2))
        assert await loop.dead_letters() == 0
        assert len(await metrics(loop, "rep_measured")) == 2 * 7


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(spineloop(*arguments), capture_output=True, text=True, check=False, timeout=120)


def test_a_broker_that_is_away_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(TOLD.csv())
    nowhere = f"mqtt://127.0.0.1:{native.free_port()}"
    done = run("play", str(path), "--machine", MACHINE, "--mqtt", nowhere)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("spineloop: play: MQTT connection lost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--machine", "m1"), "spineloop: --machine: 'm1' is not of its form\n"),
        (
            ("--machine", MACHINE, "--patient", "other/p1"),
            f"spineloop: --patient: other/p1 is of another tenant than {MACHINE}\n",
        ),
        (("--machine", MACHINE, "--session", "a b"), "spineloop: --session: 'a b' is not of its form\n"),
    ],
)
def test_a_wrong_name_is_one_line_and_ends_with_2(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(TOLD.csv())
    done = run("play", str(path), "--mqtt", "mqtt://127.0.0.1:1", *options)
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize("command", ["analyse", "play"])
def test_the_commands_explain_themselves(command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, "Usage" in done.stdout) == (0, True)
