"""The firewall of the machines' port, in a network of its own: this computer's is left alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "firewall" / "machines.nft"
RATE, BURST = 32 * 1_024, 256 * 1_024
"""Bytes a second, and at once."""

BEFORE = 4
"""Connections that were closed shortly before, and may still count: a flood and three honest ones."""

SEGMENT = 65_536
"""The largest piece that Linux hands over in one, though it sends smaller ones."""

SETUP = f"ip link set lo up mtu 1500 && nft -f {RULES} && nft -f {RULES}"
"""Twice, as after a change: it replaces itself."""


@pytest.fixture(scope="module")
def seen() -> dict[str, object]:
    """Say what came through."""
    command = f"{SETUP} && exec {sys.executable} -m tests.deploy.behind_firewall"
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", "bash", "-c", command],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=180.0,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_connection_that_floods_is_held_to_its_rate(seen: dict[str, float]) -> None:
    assert seen["flood_retransmitted"] > 0
    assert BURST + SEGMENT + RATE * seen["flood_s"] >= 600_000


def test_and_nobody_else_loses_a_segment_meanwhile(seen: dict[str, object]) -> None:
    assert seen["honest_retransmitted"] == [0, 0, 0]


def test_one_address_holds_256_connections_and_keeps_nobody_from_another_out(seen: dict[str, float]) -> None:
    assert 256 - BEFORE <= seen["held"] <= 256
    assert seen["from_elsewhere"] is True


def test_what_is_not_tcp_is_left_alone(seen: dict[str, object]) -> None:
    assert seen["datagrams"] == 600


def test_the_rules_say_what_the_tests_say() -> None:
    rules = RULES.read_text(encoding="ascii")
    assert re.findall(r"rate over (\d+) kbytes/second burst (\d+) kbytes", rules) == [("32", "256")]
    assert "define port = 8883" in rules
