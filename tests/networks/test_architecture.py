"""Architectures as data: round trips, canonical forms, digests, and what a broken file is answered with."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from strategies import all_variants, architectures, fits

from nas.errors import UsageError
from nas.networks.architecture import MAX_NAME, Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.networks.blocks.basic import Basic
from nas.networks.blocks.bottleneck import Bottleneck
from nas.networks.blocks.convnext import ConvNeXt
from nas.networks.build import walk
from nas.spaces.attributes import make_part
from nas.utils.yaml_text import MAX_BYTES, parse_yaml

IDENTITY, PROJECTION, ZERO_PAD = SHORTCUTS["identity"](), SHORTCUTS["projection"](), SHORTCUTS["zero_pad"]()
STEM, HEAD = STEMS["cifar"](8), HEADS["linear"](10)


def network(*stages: Stage, stem=STEM, **fields) -> Architecture:
    return Architecture(stem, stages, HEAD, **{"resolution": 32, **fields})


def resnet50() -> Architecture:
    stages = [
        Stage(Bottleneck(1, width), depth, 4 * width, stride, PROJECTION)
        for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
    ]
    return Architecture(STEMS["imagenet"](64), tuple(stages), HEADS["linear"](1000), resolution=224)


# Round trips.


@given(architectures())
def test_yaml_and_json_read_back_as_the_same_architecture(architecture):
    for text in (architecture.to_yaml(), architecture.to_json()):
        again = Architecture.from_yaml(text)
        assert (again, again.name, again.digest) == (architecture, architecture.name, architecture.digest)
    assert Architecture.from_dict(json.loads(architecture.to_json())) == architecture
    assert yaml.safe_load(architecture.to_yaml()) == architecture.to_dict()


@given(architectures())
def test_file_reads_back(tmp_path_factory, architecture):
    path = tmp_path_factory.mktemp("architectures") / "a.yaml"
    path.write_text(architecture.to_yaml(), encoding="utf-8")
    assert Architecture.from_yaml(path) == Architecture.from_yaml(str(path)) == architecture


@pytest.mark.parametrize("name", ["", "no", "1", "1.0", "~", "'", "a: b", "#x", "naïve", "\U0001f415", "[]"])
def test_any_printable_name_survives(name):
    architecture = dataclasses.replace(resnet50(), name=name)
    for text in (architecture.to_yaml(), architecture.to_json()):
        assert Architecture.from_yaml(text).name == name


def test_what_a_file_leaves_out_is_the_default():
    text = """
    resolution: 32
    stem: cifar
    stages: [{depth: 2, width: 16, branch: basic}]
    head: linear
    """
    expected = Architecture(STEMS["cifar"](), (Stage(Basic(), 2, 16, 1, PROJECTION),), HEADS["linear"](), 32)
    assert Architecture.from_yaml(text) == expected


def test_provenance_is_read_over():
    data = {**resnet50().to_dict(), "provenance": {"run": "results/one", "trial": 12}}
    assert Architecture.from_dict(data) == resnet50()


# Digests.


def test_digest_of_resnet50_is_a_promise():
    """Run folders and exports name networks by their digests: these two may never change."""
    assert resnet50().digest == "c42c9630e93e243e"
    assert network(Stage(Basic("pre"), 2, 8), Stage(Basic("pre"), 2, 16, 2, ZERO_PAD)).digest == "d4cef68d13286b8e"


@given(architectures(), st.randoms(use_true_random=False))
def test_digest_does_not_depend_on_the_order_of_keys(architecture, rng):
    def shuffled(data):
        if isinstance(data, dict):
            items = list(data.items())
            rng.shuffle(items)
            return {key: shuffled(value) for key, value in items}
        return [shuffled(item) for item in data] if isinstance(data, list) else data

    assert Architecture.from_dict(shuffled(architecture.to_dict())).digest == architecture.digest


@given(architectures())
def test_name_is_not_in_the_digest(architecture):
    assert dataclasses.replace(architecture, name="another").digest == architecture.digest


@given(architectures())
def test_canonical_is_a_fixed_point_with_the_same_digest(architecture):
    canonical = architecture.canonical()
    assert canonical.canonical() == canonical
    assert canonical.digest == architecture.digest


def test_digests_are_equal_exactly_where_the_networks_are():
    """All one-stage networks of all parts: equal digest if and only if PyTorch prints the same modules.

    A part whose modules differ in ways that `repr` doesn't show (its `extra_repr`) fails here, and should say them.
    """
    digests: dict[str, set[str]] = {}
    printed: dict[str, set[str]] = {}
    branches, shortcuts, merges = map(all_variants, (BRANCHES, SHORTCUTS, MERGES))
    parts = [
        *itertools.product(branches, shortcuts[:3], [MERGES["add"]()]),
        *itertools.product([Basic(), Basic("pre"), ConvNeXt()], shortcuts, merges),
    ]
    for branch, shortcut, merge in parts:
        for depth, (width, stride) in itertools.product((1, 2), ((8, 1), (6, 2))):
            if not fits(shortcut, merge, STEM.width, width, stride):
                continue
            architecture = network(Stage(branch, depth, width, stride, shortcut, merge))
            with torch.device("meta"):
                text = repr([piece.module() for piece in walk(architecture)])
            digests.setdefault(text, set()).add(architecture.digest)
            printed.setdefault(architecture.digest, set()).add(text)
    assert [text for text, found in digests.items() if len(found) > 1] == []
    assert [found for found in printed.values() if len(found) > 1] == []
    assert len(digests) > 100


PAIR = Stage(Basic(), 2, 16, 2, PROJECTION)
BOTTLENECK = Bottleneck(1, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Stage(BOTTLENECK, 2, 8), Stage(Bottleneck(1, 4, "1x1"), 2, 8), id="stride_on at stride 1"),
        pytest.param(Stage(Basic(), 2, 8, 1, IDENTITY), Stage(Basic(), 2, 8, 1, PROJECTION), id="nothing to project"),
        pytest.param(Stage(Basic(), 2, 8, 1, IDENTITY), Stage(Basic(), 2, 8, 1, ZERO_PAD), id="nothing to pad"),
        pytest.param(
            Stage(Basic(), 2, 16, 2, PROJECTION, MERGES["none"]()),
            Stage(Basic(), 2, 16, 2, ZERO_PAD, MERGES["none"]()),
            id="plain",
        ),
        pytest.param(
            Stage(Basic(), 2, 16, 1, PROJECTION), Stage(Basic(), 2, 16, 1, SHORTCUTS["avg_pool"]()), id="pool 1"
        ),
        pytest.param(
            Stage(Basic(), 1, 16, 2, PROJECTION),
            Stage(Basic(), 1, 16, 2, SHORTCUTS["projection_all"]()),
            id="one block",
        ),
    ],
)
def test_choices_without_effect_have_no_digest_of_their_own(one, other):
    assert one != other
    assert network(one).digest == network(other).digest
    assert network(one).canonical() == network(other).canonical()


@pytest.mark.parametrize(
    "other",
    [
        network(Stage(Basic(), 3, 16, 2, PROJECTION)),
        network(Stage(Basic(), 2, 24, 2, PROJECTION)),
        network(Stage(Basic(), 2, 16, 1, PROJECTION)),
        network(Stage(Basic("pre"), 2, 16, 2, PROJECTION)),
        network(Stage(BOTTLENECK, 2, 16, 2, PROJECTION)),
        network(Stage(Basic(), 2, 16, 2, SHORTCUTS["projection_all"]())),
        network(Stage(Basic(), 2, 16, 2, SHORTCUTS["avg_pool"]())),
        network(Stage(Basic(), 2, 16, 2, ZERO_PAD)),
        network(Stage(Basic(), 2, 16, 2, PROJECTION, MERGES["none"]())),
        network(PAIR, PAIR),
        network(PAIR, resolution=33),
        network(PAIR, channels=1),
        network(PAIR, stem=STEMS["cifar"](9)),
        network(PAIR, stem=STEMS["imagenet"](8)),
        dataclasses.replace(network(PAIR), head=HEADS["linear"](11)),
    ],
    ids=range(15),
)
def test_every_difference_is_in_the_digest(other):
    assert other.digest != network(PAIR).digest


def test_zero_has_no_sign():
    plus, minus = MERGES["highway"](bias=0.0), MERGES["highway"](bias=-0.0)
    digests = {network(Stage(Basic(), 2, 8, merge=own)).digest for own in (plus, minus)}
    assert plus == minus and len(digests) == 1 and str(minus.bias) == "0.0"


@pytest.mark.parametrize("foreign", [True, 1.0, "1"])
def test_a_part_that_was_made_before_is_not_taken_for_one_of_another_type(foreign):
    values = {"block": "bottleneck", "cardinality": 1}
    assert make_part("block", values).cardinality == 1
    with pytest.raises(UsageError, match=f"cardinality must be a whole number, not {foreign!r}"):
        make_part("block", {**values, "cardinality": foreign})


def test_where_the_stride_stands_matters_where_there_is_one():
    stages = [Stage(Bottleneck(1, 4, on), 2, 16, 2, PROJECTION) for on in ("1x1", "3x3")]
    assert len({network(stage).digest for stage in stages}) == 2


def test_adapted_keeps_the_design():
    small = resnet50().adapted(classes=10, resolution=32, channels=1, stem=STEMS["cifar"](64))
    assert small.stages == resnet50().stages
    assert (small.head.classes, small.resolution, small.channels, small.stem.kind) == (10, 32, 1, "cifar")
    assert resnet50().adapted(classes=1000, resolution=224, channels=3) == resnet50()


def test_str_is_the_name_or_says_the_design():
    assert str(dataclasses.replace(resnet50(), name="mine")) == "mine"
    assert str(resnet50()) == f"3-4-6-3 bottleneck {resnet50().digest[:8]}"


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
