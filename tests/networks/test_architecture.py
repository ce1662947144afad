"""Architectures as data: round trips, canonical forms, digests, and what a broken file is answered with."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from strategies import all_variants, architectures, fits

from nas.errors import UsageError
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.networks.blocks.basic import Basic
from nas.networks.blocks.bottleneck import Bottleneck
from nas.networks.blocks.convnext import ConvNeXt
from nas.networks.build import walk
from nas.spaces.attributes import make_part

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
