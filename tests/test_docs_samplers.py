"""docs/samplers.md: its example runs as it stands, and its table names the samplers that there are."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest

from nas.samplers import SAMPLERS, KnownCostSampler
from nas.searching.request import Request

PAGE = Path(__file__).parents[1] / "docs" / "samplers.md"
if not PAGE.exists():
    pytest.skip("the pages are not part of this distribution", allow_module_level=True)
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_sampler_is_named():
    table = TEXT[: TEXT.index("## ")]
    named = re.findall(r"`([a-z0-9-]+)`", "".join(line.split("|")[1] for line in table.splitlines() if line[:1] == "|"))
    assert set(named) == set(SAMPLERS)
    assert f"`{Request().sampler}` (default)" in table


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names: dict = {}
    exec(example, names)
    study = names["study"]
    assert isinstance(study, optuna.Study) and isinstance(study.sampler, KnownCostSampler)
    assert len(study.trials) == 40 and len({tuple(trial.params.values()) for trial in study.trials}) == 40
