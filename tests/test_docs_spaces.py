"""docs/spaces.md: its examples are spaces, its tables name what the registries hold, and its refusals are the real ones."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml

from nas.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.errors import UsageError
from nas.space import DEFAULTS, NETWORK_ATTRIBUTES, STAGE_ATTRIBUTES, SearchSpace, space_from_text

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
    assert len(SPACES) == 4
    assert len(LINES) == 2
    assert len(SPACES) + len(LINES) == len(EXAMPLES)
    assert len(REFUSED) == 14


@pytest.mark.parametrize("text", SPACES, ids=lambda text: text.split()[1])
@pytest.mark.parametrize("resolution", [8, 32, 224])
def test_whole_spaces_can_be_sampled(text, resolution):
    space = load(text, resolution)
    rng = random.Random(0)
    for _ in range(50):
        assert space.cost(space.any(rng)).params > 0
    if resolution <= 32:  # no budget on MACs can be met at any resolution
        assert space.feasible(space.sample(0))


@pytest.mark.parametrize("text", LINES, ids=["domains", "conditions"])
def test_lines_can_be_sampled(text):
    space = with_lines(text)
    rng = random.Random(0)
    for _ in range(100):
        assert space.cost(space.any(rng)).params > 0


def test_figures_of_the_text():
    assert load(SPACES[0]).size() == 6**3 * 3**3 == 5832
    knobs = with_lines(LINES[0]).knobs
    assert knobs["stage1.depth"].values == (1, 2, 3, 4, 5, 6)
    assert knobs["stage2.width"].values == (32, 64, 96, 128)
    assert knobs["stage3.width"].values == (32, 64, 128, 256)
    assert "stem_width" not in knobs
    narrower = load(SPACES[1])
    assert set(narrower.knobs) == {"block", *(f"stage{k}.depth" for k in (1, 2, 3)), "stage1.width", "stage2.width"}
    assert [load(SPACES[3], resolution).variant for resolution in (64, 65)] == ["thumbnails", "photos"]


def test_conditions_of_the_text():
    space = with_lines(LINES[1])
    rng = random.Random(1)
    for _ in range(100):
        choices = space.any(rng)
        grouped = choices["block"] == "bottleneck"
        assert all((f"stage{k}.cardinality" in choices) == grouped for k in (1, 2, 3))
        architecture = space.architecture(choices)
        assert [stage.depth for stage in architecture.stages[:2]] == [2, 2]
        assert architecture.stages[2].depth in (4, 6)  # the shortcut is a projection in this base
    zero_pad = with_lines(LINES[1] + "shortcut: zero_pad\n")
    assert {zero_pad.architecture(zero_pad.any(rng)).stages[2].depth for _ in range(20)} == {2}


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_refusals_say_what_the_page_says(line, message):
    with pytest.raises(UsageError) as error:
        with_lines(line)
    assert message in str(error.value)


def test_page_names_every_attribute_kind_and_option():
    kinds = [kind for registry in (BRANCHES, SHORTCUTS, MERGES, STEMS, HEADS) for kind in registry]
    options = [option for branch in BRANCHES.values() for option in branch.options()]
    missing = [
        name for name in (*STAGE_ATTRIBUTES, *NETWORK_ATTRIBUTES, *kinds, *options) if not re.search(rf"`{name}`", TEXT)
    ]
    assert missing == []


def test_defaults_of_the_tables():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `?(\w+)`? \|$", TEXT, flags=re.MULTILINE))
    assert {name: str(value) for name, value in DEFAULTS.items()}.items() <= rows.items()
    bottleneck = BRANCHES["bottleneck"]()
    assert {name: rows[name] for name in ("cardinality", "group_width", "stride_on", "order")} == {
        name: str(getattr(bottleneck, name)) for name in bottleneck.options()
    }
    widths = re.search(r"^\| `stem_width` .*\| (\d+) for `cifar`, (\d+) for `imagenet` \|$", TEXT, flags=re.MULTILINE)
    assert widths is not None
    assert [int(width) for width in widths.groups()] == [STEMS[kind]().width for kind in ("cifar", "imagenet")]
