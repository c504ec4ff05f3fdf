"""Asked: the options of a bench, the same for `scripts/bench` and `spineloop bench`, which loads the rest late."""

from pathlib import Path
from typing import Annotated

import typer

Quick = Annotated[bool, typer.Option("--quick", help="One short run instead of three.")]
Rate = Annotated[float, typer.Option(min=80.0, max=2_000.0, help="Reps a second that the end-to-end fleet aims at.")]
Plots = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, help="Draw pictures of latency and scale into this folder.")
]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write the figures here, as JSON.")]

RATE = 200.0
"""Reps a second where nobody asks for others."""
