"""Builder: writes every file of Grafana that is made of our tables. Run by `scripts/dashboards`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import alerts, boards
from dashboards.grafana.boards import Board
from dashboards.grafana.fleet import FLEET
from dashboards.grafana.machine import MACHINE
from dashboards.grafana.patient import PATIENT
from dashboards.grafana.pipeline import PIPELINE

HERE = Path(__file__).parent

BOARDS: tuple[Board, ...] = (FLEET, MACHINE, PATIENT, PIPELINE)

ALERTING = "provisioning/alerting/rules.yaml"

NOTE = "# Written by scripts/dashboards from dashboards/grafana/alerts.py. JSON is YAML.\n"


def board_json(board: Board) -> dict[str, Any]:
    """Return a board as Grafana reads it."""
    told: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(boards.drawn(board)))
    return told


def files() -> Mapping[str, str]:
    """Return every generated file, by its path in this folder."""
    drawn = {board.uid: board_json(board) for board in BOARDS}
    panels = {(uid, panel["title"]): panel["id"] for uid, board in drawn.items() for panel in board["panels"]}
    return {f"boards/{uid}.json": _text(board) for uid, board in drawn.items()} | {
        ALERTING: NOTE + _text(alerts.provisioned(panels))
    }


def _text(told: dict[str, Any]) -> str:
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the files that have changed."""
    for name, text in files().items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
