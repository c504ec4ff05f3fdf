"""The command line as a person uses it: what it prints, and how it ends."""

import json
import os
import subprocess

import pytest

from loadtest import native, stack
from loadtest.oracle import until
from loadtest.stack import spineloop


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    told = {name: value for name, value in os.environ.items() if not name.startswith("SPINELOOP_")} | environment
    return subprocess.run(spineloop(*arguments), capture_output=True, text=True, check=False, env=told, timeout=120)


@pytest.mark.parametrize("command", ["demo", "serve", "ingest", "control", "plan", "history", "downlink", "simulate"])
def test_every_command_explains_itself(command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, "Usage" in done.stdout) == (0, True)


def test_a_wrong_setting_ends_with_one_line_that_names_it() -> None:
    done = run("control", SPINELOOP_PARTITIONS="many")
    assert done.returncode == 2
    assert done.stderr == "spineloop: SPINELOOP_PARTITIONS: Expected `int`, got `str`\n"


def test_a_log_that_is_away_is_one_clear_line_and_not_a_traceback() -> None:
    nowhere = f"kafka://127.0.0.1:{native.free_port()}"
    done = run("control", SPINELOOP_LOG_URL=nowhere, SPINELOOP_HTTP_PORT="0", SPINELOOP_STALL_S="1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("spineloop: control: nothing to begin with in 1.0 s: Kafka: ")
    assert "Traceback" not in done.stderr


def test_the_doctor_says_what_is_wrong_and_how_to_mend_it() -> None:
    nowhere = f"127.0.0.1:{native.free_port()}"
    done = run(
        "doctor",
        "--json",
        SPINELOOP_MQTT_URL=f"mqtt://{nowhere}",
        SPINELOOP_LOG_URL=f"kafka://{nowhere}",
        SPINELOOP_HISTORY_URL=f"http://{nowhere}",
    )
    assert done.returncode == 1
    findings = {one["component"]: one for one in json.loads(done.stdout)}
    assert [findings[name]["is_well"] for name in ("mqtt", "log", "history", "policy")] == [False, False, False, True]
    assert "SPINELOOP_MQTT_URL" in findings["mqtt"]["mend"]


async def test_the_doctor_is_content_with_a_stack_that_is_well_and_topics_are_described() -> None:
    async with stack.servers() as servers:
        environment = servers.environment()

        async def is_content() -> bool:
            return run("doctor", **environment).returncode == 0

        await until(is_content)
        assert run("topics", "create", **environment).stdout == "nothing to create\n"
        rows = json.loads(run("topics", "describe", "--json", **environment).stdout)
    assert {row["partitions"] for row in rows} == {stack.PARTITIONS}
    assert [row["differences"] for row in rows] == [[]] * 7
