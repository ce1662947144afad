"""A run that is reported."""

from __future__ import annotations

import pytest
from helpers_report import searched_run

from nas.report import figures
from nas.runs.run import Run

EXACT = [
    cost for cost in figures.COSTS if cost != "latency_ms"
]  # what every run has; latencies: test_latency_search.py


@pytest.fixture(scope="module")
def run() -> Run:
    return searched_run()
