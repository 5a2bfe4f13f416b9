"""The program of docs/monitor.md runs on lines of `--output jsonl`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.unit.twinship.fleet.monitor.test_rows import LATENCY, SOURCE, prediction
from twinship.fleet.monitor.rows import row

DOCUMENT = Path(__file__).parents[5] / "docs" / "monitor.md"


def test_the_program_of_the_document_counts_answers_by_device_and_label() -> None:
    """Messages of latency are left out."""
    garden = replace(SOURCE, device="garden")
    eight = prediction(garden, top=[{"label": "8", "confidence": 0.5}])
    messages = (prediction(), prediction(stages_ms={"invoke": 4.0}), eight, LATENCY)
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="".join(json.dumps(row(each)) + "\n" for each in messages),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["garden 8 1 0.500 0.8 ms", "porch 7 2 0.900 4.0 ms"]
