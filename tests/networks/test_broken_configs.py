"""Configs that are broken: each is answered with one line that names the place."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.networks.architecture import MAX_NAME, Architecture
from nas.networks.blocks.bottleneck import Bottleneck
from nas.utils.yaml_text import MAX_BYTES, parse_yaml

# Broken files. Each is answered with one line that names the place.

GOOD = """\
resolution: 32
channels: 3
stem: {kind: cifar, width: 16}
stages:
- {depth: 2, width: 16, stride: 1, branch: {kind: basic}, shortcut: projection, merge: add}
- {depth: 2, width: 32, stride: 2, branch: {kind: bottleneck, group_width: 8}, shortcut: projection, merge: add}
head: {kind: linear, classes: 10}
"""
SECOND = GOOD.splitlines()[5]
LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nresolution: [*b, *b]\n"

BROKEN = [
    # wrong types and values
    ("resolution: 32", "resolution: large", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: 32.5", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: true", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: .nan", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: .inf", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: 0", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: -32", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: 1000000", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution: 2020-01-01", "architecture: resolution must be a whole number"),
    ("resolution: 32", "resolution:", "architecture: resolution must be a whole number"),
    ("resolution: 32", f"resolution: {'9' * 5000}", "line 1"),
    ("resolution: 32", f"resolution: 0x{'f' * 5000}", "line 1"),
    ("resolution: 32", f"resolution: 1{':1' * 5000}", "line 1"),
    ("resolution: 32", f"resolution: 1{':1' * 300}.0", "not readable as YAML"),
    ("channels: 3", "channels: [3]", "architecture: channels must be"),
    ("depth: 2, width: 32", "depth: 2.0, width: 32", "architecture: stage 2: depth must be"),
    ("depth: 2, width: 32", "depth: yes, width: 32", "architecture: stage 2: depth must be"),
    ("depth: 2, width: 32", "depth: 1000000000, width: 32", "architecture: stage 2: depth must be"),
    ("depth: 2, width: 32", "depth: 2, width: 1e9", "architecture: stage 2: width must be"),
    ("stride: 2", "stride: {x: 2}", "architecture: stage 2: stride must be"),
    ("group_width: 8", "group_width: 0", "architecture: stage 2: branch: bottleneck: group_width must be"),
    ("group_width: 8", "group_width: false", "architecture: stage 2: branch: bottleneck: group_width must be"),
    ("group_width: 8", "order: sideways", "architecture: stage 2: branch: bottleneck: order must be one of post, pre"),
    ("classes: 10", "classes: many", "architecture: head: linear: classes must be"),
    ("kind: cifar, width: 16", "kind: cifar, width: -1", "architecture: stem: cifar: width must be"),
    (GOOD, "- 1\n- 2\n", "architecture: expected a mapping"),
    (GOOD, "resnet50\n", "architecture: expected a mapping"),
    (GOOD, "\n", "architecture: expected a mapping"),
    (GOOD[GOOD.index("stages:") : GOOD.index("head:")], "stages: []\n", "architecture: an architecture has from 1 to"),
    (GOOD[GOOD.index("stages:") : GOOD.index("head:")], "stages: {}\n", "architecture: stages must be a list"),
    (GOOD[GOOD.index("stages:") : GOOD.index("head:")], "stages: basic\n", "architecture: stages must be a list"),
    (SECOND, "- basic", "architecture: stage 2: expected a mapping"),
    (SECOND, f"{SECOND}\n" * 63 + SECOND, "architecture: an architecture has from 1 to"),
    ("channels: 3", "name: 3", "architecture: name must be one line"),
    ("channels: 3", "name: {a: b}", "architecture: name must be one line"),
    ("channels: 3", 'name: "two\\nlines"', "architecture: name must be one line"),
    ("channels: 3", f"name: {'x' * (MAX_NAME + 1)}", "architecture: name must be one line"),
    ("channels: 3", "version: 2", "architecture: version 2 is not 1"),
    ("channels: 3", "version: true", "architecture: version True is not 1"),
    ("channels: 3", "version: .nan", "architecture: version nan is not 1"),
    # missing keys
    ("resolution: 32\n", "", "architecture: resolution is missing"),
    ("stem: {kind: cifar, width: 16}\n", "", "architecture: stem: expected {kind: ...}; known kinds: imagenet, deep"),
    ("head: {kind: linear, classes: 10}\n", "", "architecture: head: expected {kind: ...}"),
    ("kind: cifar, ", "", "architecture: stem: expected {kind: ...}"),
    ("depth: 2, width: 32, ", "width: 32, ", "architecture: stage 2: depth is missing"),
    ("branch: {kind: basic}, ", "", "architecture: stage 1: branch is missing"),
    # unknown keys and kinds
    ("channels: 3", "chanels: 3", "architecture: unknown key 'chanels' (did you mean 'channels'?)"),
    ("channels: 3", "7: 3", "architecture: unknown key 7"),
    ("stride: 2", "strides: 2", "architecture: stage 2: unknown key 'strides' (did you mean 'stride'?)"),
    ("group_width: 8", "groups: 8", "architecture: stage 2: branch: bottleneck has no option 'groups'"),
    ("kind: bottleneck", "kind: bottelneck", "architecture: stage 2: branch: unknown block 'bottelneck' (did you mean"),
    ("kind: bottleneck", "kind: [bottleneck]", "architecture: stage 2: branch: unknown block ['bottleneck']"),
    ("merge: add}\nhead", "merge: sum}\nhead", "architecture: stage 2: merge: unknown merge 'sum'"),
    ("kind: linear", "kind: NaN", "architecture: head: unknown head 'NaN'"),
    # YAML that is not plain data
    (GOOD, "a: [1\n", "line 2: not readable as YAML"),
    (GOOD, "a: b: c\n", "line 1: not readable as YAML"),
    (GOOD, "a: 1\x00\n", "not readable as YAML"),
    (GOOD, "---\na: 1\n---\nb: 1\n", "line 3: not readable as YAML"),
    (GOOD, LAUGHS, "line 2: not readable as YAML: aliases"),
    (GOOD, "resolution: &a [*a]\n", "line 1: not readable as YAML: aliases"),
    ("channels: 3", "resolution: 64", "line 2: not readable as YAML: 'resolution' is given twice"),
    ("stride: 2", "stride: 2, stride: 2", "line 6: not readable as YAML: 'stride' is given twice"),
    ("channels: 3", "? [channels]\n: 3", "line 2: not readable as YAML: a key must be"),
    ("channels: 3", "? {channels: 1}\n: 3", "line 2: not readable as YAML: a key must be"),
    ("resolution: 32", "resolution: !!python/object/apply:os.getpid []", "line 1: not readable as YAML: tags"),
    ("resolution: 32", "resolution: !!python/name:os.getpid", "line 1: not readable as YAML: tags"),
    ("resolution: 32", "resolution: !mine 32", "line 1: not readable as YAML: tags"),
    ("resolution: 32", "resolution: !!int ''", "line 1: not readable as YAML: tags"),
    ("resolution: 32", "resolution: !!bool maybe", "line 1: not readable as YAML: tags"),
    ("resolution: 32", "resolution: !!timestamp x", "line 1: not readable as YAML: tags"),
    ("resolution: 32", "resolution: 2020-13-45", "not readable as YAML: month"),
    ("resolution: 32", 'resolution: "\\UFFFFFFFF"', "not readable as YAML"),
    (GOOD, "[" * 50_000 + "\n", "not readable as YAML: nested too deeply"),
    (GOOD, "{a: " * 50_000 + "\n", "not readable as YAML: nested too deeply"),
    (GOOD, "- " * 50_000 + "\n", "not readable as YAML: nested too deeply"),
    (GOOD, "resolution: " + "[" * 100 + "]" * 100 + "\n", "architecture: stages must be a list"),
    (GOOD, "#" * MAX_BYTES + "\n", "too many for a config"),
]


def test_the_file_that_the_broken_ones_are_made_from_is_good():
    assert Architecture.from_yaml(GOOD).stages[1].branch == Bottleneck(1, 8)


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=lambda text: repr(text)[:40])
def test_broken_text_is_one_line_that_names_the_place(old, new, message):
    assert GOOD.count(old) >= 1
    with pytest.raises(UsageError) as caught:
        Architecture.from_yaml(GOOD.replace(old, new, 1))
    text = str(caught.value)
    assert message in text
    assert text.startswith("architecture: ")
    assert "\n" not in text


def test_broken_file_is_named(tmp_path: Path):
    (tmp_path / "binary.yaml").write_bytes(bytes(range(128, 256)))
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "wrong.yaml").write_text("resolution: 32\n")
    (tmp_path / "large.yaml").write_text("#" * (MAX_BYTES + 1))
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("binary.yaml", "not a text file"),
        ("broken.yaml", "line 2: not readable as YAML"),
        ("wrong.yaml", "stages must be a list"),
        ("large.yaml", "too many for a config"),
        ("folder", "can't be read: Is a directory"),
        ("missing.yaml", "can't be read: No such file or directory"),
        ("nul\0", "can't be read"),
        ("x" * 5000, "can't be read: File name too long"),
    ):
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(UsageError) as caught:
                Architecture.from_yaml(path)
            assert str(caught.value).startswith(f"{path}: "[:1000])
            assert message in str(caught.value)
            assert "\n" not in str(caught.value)


def places(data: object, path: tuple = ()):
    """The paths to all values inside of nested lists and mappings."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_value_anywhere_is_read_or_refused(data):
    whole = copy.deepcopy(yaml.safe_load(GOOD))
    *path, last = data.draw(st.sampled_from(list(places(whole))))
    inner = whole
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(PLAIN)
    try:
        architecture = Architecture.from_dict(whole)
    except UsageError as error:
        assert str(error).startswith("architecture: ")
        assert "\n" not in str(error)
    else:
        assert Architecture.from_yaml(architecture.to_yaml()) == architecture


@given(st.data())
def test_any_slip_of_the_pen_is_read_or_refused(data):
    at = data.draw(st.integers(0, len(GOOD)))
    slip = data.draw(st.text("{}[]:,-&*!?|>'\"%@`#\n\t 0a\\<=~.", max_size=3))
    cut = data.draw(st.integers(0, 3))
    try:
        architecture = Architecture.from_yaml(GOOD[:at] + slip + GOOD[at + cut :])
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert Architecture.from_yaml(architecture.to_yaml()) == architecture


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    try:
        parse_yaml(text, "here")
    except UsageError as error:
        assert str(error).startswith("here: ")
        assert "\n" not in str(error)
