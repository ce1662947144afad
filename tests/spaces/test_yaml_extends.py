"""Spaces that extend another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from helpers_search import TINY, write_space
from helpers_space import first_choices

from nas.errors import UsageError
from nas.spaces.space import SearchSpace, load_space, space_from_text
from nas.spaces.yaml_format import MAX_CHAIN

# -- extends -----------------------------------------------------------------------------------------------------------

BASE = """\
space: base
description: the base
stages: 3
values:
  block: [basic, bottleneck]
  width: 8
  stage*.depth: [1, 2]
  stage3.depth: [3, 4]
  stage2.block: basic
budgets: {params: {max: 100000}, flops: {max: 5000000}}
variants:
  - {name: small, max_resolution: 16, stages: 2, values: {stage1.block: bottleneck, stem_width: 4}}
  - {name: large, values: {stem: imagenet}}
"""


def extended(tmp_path: Path, text: str, resolution: int = 32, base: str = BASE) -> SearchSpace:
    (tmp_path / "parts").mkdir(exist_ok=True)
    write_space(tmp_path / "parts", base.replace("\n  stage3.depth: [3, 4]", ""), "base.yaml")
    return load_space(write_space(tmp_path, text, "child.yaml"), resolution=resolution)


@pytest.mark.parametrize(("resolution", "variant"), [(8, "small"), (32, "large")])
def test_a_line_of_the_extending_file_covers_the_base_and_its_variants(tmp_path, resolution, variant):
    space = extended(tmp_path, "space: child\nextends: parts/base.yaml\nvalues: {block: basic}\n", resolution)
    assert (space.name, space.description, space.variant) == ("child", "the base", variant)
    assert not [key for key in space.knobs if "block" in key]
    assert {stage.branch.kind for stage in space.architecture(first_choices(space)).stages} == {"basic"}
    assert space.architecture(first_choices(space)).stem.kind == ("cifar" if variant == "small" else "imagenet")
    one = extended(tmp_path, "space: child\nextends: parts/base.yaml\nvalues: {stage2.block: bottleneck}\n", resolution)
    kinds = [stage.branch.kind for stage in one.architecture(first_choices(one)).stages]
    assert kinds == (["bottleneck", "bottleneck"] if variant == "small" else ["basic", "bottleneck", "basic"])


def test_variants_are_merged_by_name(tmp_path):
    text = """\
space: child
extends: parts/base.yaml
stages: 1
budgets: {params: {min: 10}, macs: {max: 400000}}
variants:
  - {name: large, values: {depth: 3}, budgets: {params: {max: 50000}}}
  - {name: middle, max_resolution: 20, values: {width: 4}}
  - {name: huge, stages: 2}
"""
    spaces = {resolution: extended(tmp_path, text, resolution) for resolution in (8, 18, 32)}
    assert {resolution: space.variant for resolution, space in spaces.items()} == {
        8: "small",
        18: "middle",
        32: "large",
    }
    assert [space.stages for space in spaces.values()] == [1, 1, 1]
    assert spaces[8].budget.bounds == {"params": (10, 100000), "macs": (None, 400000)}
    assert spaces[32].budget.bounds == {"params": (10, 50000), "macs": (None, 400000)}
    assert [stage.depth for stage in spaces[32].architecture(first_choices(spaces[32])).stages] == [3]
    assert [stage.width for stage in spaces[18].architecture(first_choices(spaces[18])).stages] == [4]
    huge = load_space(tmp_path / "child.yaml", variant="huge")
    assert huge.stages == 2 and "stem_width" not in {slot.key for slot in huge.slots}


def test_the_source_stands_by_itself(tmp_path):
    space = extended(tmp_path, "space: child\nextends: parts/base.yaml\nvalues: {stage1.width: [4, 8]}\n")
    assert "extends" not in yaml.safe_load(space.source)
    (tmp_path / "parts" / "base.yaml").unlink()
    for resolution in (8, 32):
        kept = space_from_text(space.source, resolution=resolution, channels=3, classes=10)
        other = space.for_data(resolution=resolution, channels=3, classes=10)
        assert kept.slots == other.slots and kept.budget == other.budget
    plain = write_space(tmp_path, TINY)
    assert load_space(plain).source == plain.read_text()


def test_chains(tmp_path):
    for k in range(MAX_CHAIN + 1):
        body = f"extends: s{k - 1}.yaml\nvalues: {{stage1.depth: {k}}}" if k else f"{TINY[12:].strip()}"
        write_space(tmp_path, f"space: s{k}\n{body}\n", f"s{k}.yaml")
    last = load_space(tmp_path / f"s{MAX_CHAIN - 1}.yaml")
    assert last.architecture(first_choices(last)).stages[0].depth == MAX_CHAIN - 1
    with pytest.raises(
        UsageError, match=rf"s1.yaml: extends 's0.yaml': more than {MAX_CHAIN} spaces extend one another"
    ):
        load_space(tmp_path / f"s{MAX_CHAIN}.yaml")


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("child.yaml", "child.yaml: extends 'child.yaml': goes round in a circle: child.yaml extends child.yaml"),
        ("round.yaml", "round.yaml: extends './child.yaml': goes round in a circle: child.yaml extends round.yaml"),
        ("missing.yaml", "missing.yaml: can't be read: No such file"),
        ("resnxt", "child.yaml: extends 'resnxt': unknown space 'resnxt' (did you mean 'resnext'?)"),
        ("broken.yaml", "broken.yaml: line 1: not readable as YAML"),
        ("list.yaml", "list.yaml: no search space"),
        ("misspelt.yaml", "misspelt.yaml: unknown attribute 'stage*.dpth' (did you mean 'depth'?)"),
        (".", "can't be read"),
        ("3", "child.yaml: extends must be the name of a space"),
        ("[resnet]", "child.yaml: extends must be the name of a space"),
        ('"a\\0b"', "child.yaml: extends"),
    ],
)
def test_bases_that_can_t_be(tmp_path, base, says):
    write_space(tmp_path, "space: round\nextends: ./child.yaml\n", "round.yaml")
    write_space(tmp_path, "[", "broken.yaml")
    write_space(tmp_path, "[]", "list.yaml")
    write_space(tmp_path, TINY.replace("depth", "dpth"), "misspelt.yaml")
    path = write_space(tmp_path, f"space: child\nextends: {base}\n", "child.yaml")
    with pytest.raises(UsageError) as error:
        load_space(path)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_name_is_a_shipped_space_s_before_it_is_a_path(tmp_path):
    path = write_space(tmp_path, "space: mine\nextends: resnext\nvalues: {stage*.depth: 1}\n", "resnext")
    space = load_space(path, resolution=32)
    assert space.name == "mine" and {stage.depth for stage in space.architecture(first_choices(space)).stages} == {1}
    assert json.dumps(first_choices(space))
