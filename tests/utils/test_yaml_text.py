"""YAML that is written and read alike."""

from __future__ import annotations

import dataclasses

import pytest
from helpers_cli import nas_
from helpers_search import TINY, again, finish, settings_of
from hypothesis import given
from hypothesis import strategies as st

from nas.runs.settings import FILE, Settings
from nas.searching.study import Study
from nas.utils.yaml_text import dump, parse_yaml

# Letters of which numbers, dates, signs of YAML's own and line breaks are made.
TEXTS = st.text("0123456789eE+-._:~#'\"&*!|>% \n\tabnoyxNaIf\u00e9\u2028", max_size=12)
DATA = st.recursive(
    TEXTS | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(DATA, st.sampled_from([None, False]), st.booleans())
def test_what_is_written_is_read_as_it_was(data, flow, unicode):
    assert parse_yaml(dump(data, flow=flow, unicode=unicode), "x") == data


@pytest.mark.parametrize(
    "text", ["1e5", "0045655e66184267", "-1E+5", "1.e5", "1e-06", "12:30:45", "0x1f", "0o17", "1_000", "~"]
)
def test_a_text_that_looks_like_a_number_stays_a_text(text):
    for data in (text, [text], {text: text}):
        assert parse_yaml(dump(data), "x") == data


def test_the_same_list_twice_is_written_twice():
    shared = [1, 2]
    assert parse_yaml(dump({"a": shared, "b": shared}), "x") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("written", ["'0045655e66184267'", "0045655e66184267"], ids=["in quotes", "as once"])
def test_a_run_whose_id_looks_like_a_number_goes_on(tmp_path, written):
    with Study(tmp_path, dataclasses.replace(settings_of(TINY, trials=2), id="0045655e66184267")) as study:
        settings = study.settings
        settings.save(tmp_path)
        finish(study, most=1)
    path = tmp_path / FILE
    assert "id: '0045655e66184267'\n" in path.read_text()
    path.write_text(path.read_text().replace("'0045655e66184267'", written))
    assert Settings.load(tmp_path) == settings
    with again(tmp_path) as study:
        assert len(finish(study)) == 1
    assert nas_("front", tmp_path).exit_code == 0
