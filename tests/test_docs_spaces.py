"""docs/spaces.md: its examples are spaces, its tables name what the registries hold, and its refusals are the real ones."""

from __future__ import annotations

import random
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from nas.errors import UsageError
from nas.networks.blocks import BRANCHES, HEADS, MERGES, STEMS
from nas.spaces.attributes import PARTS, known, option_of
from nas.spaces.space import DEFAULTS, REGNET_ATTRIBUTES, SearchSpace, load_space, space_from_text
from nas.spaces.yaml_format import parse_overrides

PAGE = Path(__file__).parents[1] / "docs" / "spaces.md"
if not PAGE.exists():
    pytest.skip("the pages are not part of this distribution", allow_module_level=True)
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
SPACES = [example for example in EXAMPLES if example.startswith("space:")]
LINES = [example for example in EXAMPLES if example.startswith("# lines of `values`")]
REFUSED = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|$", TEXT[TEXT.index("## What is refused") :], flags=re.MULTILINE)
BASE = {"block": "basic", "depth": 1, "stage*.width": [32, 64]}


def load(text: str, resolution: int = 32) -> SearchSpace:
    return space_from_text(text, resolution=resolution, channels=3, classes=10)


def with_lines(lines: str) -> SearchSpace:
    values = {**BASE, **yaml.safe_load(lines)}
    return load(yaml.safe_dump({"space": "page", "stages": 3, "values": values}, sort_keys=False))


def test_every_example_is_checked():
    assert len(SPACES) == 6
    assert len(LINES) == 4
    assert len(SPACES) + len(LINES) == len(EXAMPLES)
    assert len(REFUSED) == 18


@pytest.mark.parametrize("text", SPACES, ids=lambda text: text.split()[1])
@pytest.mark.parametrize("resolution", [8, 32, 224])
def test_whole_spaces_can_be_sampled(text, resolution):
    space = load(text, resolution)
    rng = random.Random(0)
    for _ in range(50):
        assert space.cost(space.any(rng)).params > 0
    if resolution <= 32:  # no budget on MACs can be met at any resolution
        assert space.feasible(space.sample(0))


@pytest.mark.parametrize("text", LINES, ids=["options", "resolution", "domains", "conditions"])
def test_lines_can_be_sampled(text):
    space = with_lines(text)
    rng = random.Random(0)
    for _ in range(100):
        assert space.cost(space.any(rng)).params > 0


def test_figures_of_the_text():
    assert load(SPACES[0]).size() == 6**3 * 3**3 == 5832
    knobs = with_lines(LINES[2]).knobs
    assert knobs["stage1.depth"].values == (1, 2, 3, 4, 5, 6)
    assert knobs["stage2.width"].values == (32, 64, 96, 128)
    assert knobs["stage3.width"].values == (32, 64, 128, 256)
    assert "stem_width" not in knobs
    narrower = load(SPACES[1])
    assert set(narrower.knobs) == {"block", *(f"stage{k}.depth" for k in (1, 2, 3)), "stage1.width", "stage2.width"}
    assert [load(SPACES[3], resolution).variant for resolution in (64, 65)] == ["thumbnails", "photos"]


def test_options_of_the_text():
    space = with_lines(LINES[0])
    assert set(space.knobs) >= {"act", "se_ratio", "merge", "merge_bias", "merge_drop", "stem_width"}
    rng = random.Random(2)
    for _ in range(50):
        choices = space.any(rng)
        assert ("merge_bias" in choices) == (choices["merge"] == "highway") != ("merge_drop" in choices)
        architecture = space.architecture(choices)
        assert architecture.stem.act == choices["act"] and architecture.head.act == "relu"
    sides = with_lines(LINES[1])
    assert {sides.architecture(sides.any(rng)).resolution for _ in range(50)} == {24, 28, 32}


def test_the_extending_space_of_the_text():
    space, base = load(SPACES[4]), load_space("resnext", resolution=32)
    assert space.variant == base.variant == "cifar"
    assert {key for key in space.knobs if "depth" in key} == {"stage2.depth", "stage3.depth"}
    assert not {"block", "stem_width"} & set(space.knobs)
    assert space.size() < base.size() and space.budget.bounds == {"params": (None, 2e6)}


def test_the_regnet_of_the_text():
    space = load(SPACES[5])
    assert space.size() == 15 * 7 * 4 * 5 * 3 * 2 == 12600
    assert {name for name in REGNET_ATTRIBUTES if not re.search(rf"`{name}`", TEXT)} == set()
    rng = random.Random(3)
    for _ in range(50):
        stages = space.architecture(space.any(rng)).stages
        assert [stage.stride for stage in stages] == ([1, 2, 2] + [1] * len(stages))[: len(stages)]


@pytest.mark.parametrize("line", re.findall(r"^nas .*--set.*$", TEXT, flags=re.MULTILINE))
def test_settings_of_the_text(line):
    words = shlex.split(line)
    overrides = parse_overrides([value for flag, value in pairwise(words) if flag == "--set"])
    for resolution in (8, 32, 224):
        space, base = (load_space("resnext", resolution=resolution, overrides=found) for found in (overrides, {}))
        assert space.size() < base.size()


def test_conditions_of_the_text():
    space = with_lines(LINES[3])
    rng = random.Random(1)
    for _ in range(100):
        choices = space.any(rng)
        grouped = choices["block"] == "bottleneck"
        assert all((f"stage{k}.cardinality" in choices) == grouped for k in (1, 2, 3))
        architecture = space.architecture(choices)
        assert [stage.depth for stage in architecture.stages[:2]] == [2, 2]
        assert architecture.stages[2].depth in (4, 6)  # the shortcut is a projection in this base
    zero_pad = with_lines(LINES[3] + "shortcut: zero_pad\n")
    assert {zero_pad.architecture(zero_pad.any(rng)).stages[2].depth for _ in range(20)} == {2}


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_refusals_say_what_the_page_says(line, message):
    with pytest.raises(UsageError) as error:
        with_lines(line)
    assert message in str(error.value)


def test_page_names_every_attribute_kind_and_option():
    kinds = [kind for registry, _ in PARTS.values() for kind in registry]
    shared, _ = known("stages")
    missing = [name for name in sorted({*shared, *kinds}) if not re.search(rf"`{name}`", TEXT)]
    assert missing == []


def test_defaults_of_the_tables():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `?([\w.-]+)`? \|$", TEXT, flags=re.MULTILINE))
    assert {name: str(value) for name, value in DEFAULTS.items()}.items() <= rows.items()
    for name, kind in (
        ("cardinality", "bottleneck"),
        ("stride_on", "bottleneck"),
        ("order", "basic"),
        ("scale", "res2net"),
    ):
        assert rows[name] == str(getattr(BRANCHES[kind](), name))
    for name, kinds in re.findall(r"^\| `(\w+)` \|.*\| the block's: ([\d, ]+) \|$", TEXT, flags=re.MULTILINE):
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
        blocks = re.findall(r"`(\w+)`", row.split("|")[2])
        assert [getattr(BRANCHES[block](), name) for block in blocks] == [int(value) for value in kinds.split(",")]
    assert MERGES["highway"]().bias == float(rows["merge_bias"])
    assert HEADS["expanded"]().width == int(rows["head_width"])
    widths = re.search(r"^\| `stem_width` .*\| (\d+) for `cifar`, (\d+) for `imagenet` \|$", TEXT, flags=re.MULTILINE)
    assert widths is not None
    assert [int(width) for width in widths.groups()] == [STEMS[kind]().width for kind in ("cifar", "imagenet")]


def test_blocks_of_the_options_are_those_that_have_them():
    for name, blocks in re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", TEXT, flags=re.MULTILINE):
        found = option_of(name)
        if found is None:
            continue
        part, option = found
        having = {kind for kind, cls in PARTS[part][0].items() if option in cls.options()}
        assert set(re.findall(r"`(\w+)`", blocks)) == having, name
