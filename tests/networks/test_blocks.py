"""Contracts that every registered branch, shortcut, merge, stem and head meets, against PyTorch's own count.

The parameters of these tests come from the registries and the options' metadata: a new part is tested by being there.
"""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import measured
from strategies import all_variants, fits, label, option_values, variants
from torch.nn import functional as F

from nas.errors import UsageError
from nas.networks.blocks import (
    BRANCHES,
    HEADS,
    MERGES,
    SHORTCUTS,
    STEMS,
    Block,
    Branch,
    Head,
    Merge,
    Shortcut,
    Stem,
    basic,
    bottleneck,
    shortcuts,
)
from nas.networks.blocks._base import MAX_OPTION, Part, option
from nas.networks.blocks.layer import cost_of_layers, module_of_layers
from nas.networks.cost import Cost, Shape
from nas.utils.registry import Registry

pytestmark = pytest.mark.usefixtures("one_thread")

ADD, NONE, PROJECTION = MERGES["add"](), MERGES["none"](), SHORTCUTS["projection"]()
REGISTRIES = {"block": BRANCHES, "shortcut": SHORTCUTS, "merge": MERGES, "stem": STEMS, "head": HEADS}
KINDS = [kind for registry in REGISTRIES.values() for kind in registry.values()]

STRIDES = (1, 2, 3)
WIDTHS = ((8, 8), (6, 10), (10, 6))
SHAPES = ((8, 8), (7, 10), (1, 2))  # height, width: even, odd and smaller than the stride

# Quick: all options of the branches with the usual shortcut and merge; one branch of each kind with each shortcut and with
# each kind of merge; all options of the merges with one branch. Slow: all kinds crossed, and the options of the branches and of
# the merges crossed with the kinds of the other.
FIRST = [variants(kind)[0] for kind in BRANCHES.values()]
FIRST_MERGES = [variants(kind)[0] for kind in MERGES.values()]
BRANCH_VARIANTS, SHORTCUT_VARIANTS, MERGE_VARIANTS = map(all_variants, (BRANCHES, SHORTCUTS, MERGES))
QUICK = {
    *itertools.product(BRANCH_VARIANTS, [PROJECTION], [ADD]),
    *itertools.product(FIRST, SHORTCUT_VARIANTS, [ADD]),
    *itertools.product(FIRST, [PROJECTION], FIRST_MERGES),
    *itertools.product(FIRST[:1], [PROJECTION], MERGE_VARIANTS),
}
ALL = dict.fromkeys(
    [
        *itertools.product(FIRST, SHORTCUT_VARIANTS, FIRST_MERGES),
        *itertools.product(FIRST, [PROJECTION], MERGE_VARIANTS),
        *itertools.product(BRANCH_VARIANTS, [PROJECTION], FIRST_MERGES),
    ]
)
CASES = [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in ALL]
every_block = pytest.mark.parametrize(("branch", "shortcut", "merge"), CASES, ids=label)


def blocks(branch, shortcut, merge, strides=STRIDES, widths=WIDTHS):
    """The blocks of these parts that can stand, at every stride and between equal and different widths."""
    for stride, (width_in, width_out) in itertools.product(strides, widths):
        if fits(shortcut, merge, width_in, width_out, stride):
            yield Block(branch, shortcut, merge, width_in, width_out, stride)


@every_block
def test_cost_is_what_pytorch_counts(branch, shortcut, merge):
    for block in blocks(branch, shortcut, merge):
        # A Latin square: each size of an image meets each stride and each pair of widths.
        size = SHAPES[(STRIDES.index(block.stride) + WIDTHS.index((block.width_in, block.width_out))) % len(SHAPES)]
        shape = Shape(block.width_in, *size)
        cost, result = block.cost(shape)
        assert (cost, result) == measured(block.module(), shape, "cpu"), (block, shape)
        assert result == (block.width_out, -(-size[0] // block.stride), -(-size[1] // block.stride))


@every_block
def test_every_parameter_receives_a_gradient(branch, shortcut, merge):
    for block in blocks(branch, shortcut, merge, strides=(1, 2), widths=((8, 8), (6, 10))):
        missing = None
        for seed in range(6):  # a rectifier of one or two channels may be shut at one point, not at all of them
            without = without_gradient(block, seed)
            missing = without if missing is None else missing & without
            if not missing:
                break
        assert not missing, block


def without_gradient(block, seed):
    """Names of what gets no gradient at a random point; a gradient that is missing or not finite fails at once."""
    random = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    module = block.module().train()
    with torch.no_grad():
        for parameter in module.parameters():  # norms start at a point where some gradients vanish by symmetry
            parameter += 0.3 * random(parameter.shape)
    x = random(4, block.width_in, 8, 7).requires_grad_()
    y = module(x * 1.0)  # not a leaf, so that an in-place first operation is as legal as inside a network
    (y * random(y.shape)).sum().backward()
    named = [("x", x), *module.named_parameters()]
    for name, tensor in named:
        assert tensor.grad is not None, (block, name)
        assert tensor.grad.isfinite().all(), (block, name)
    return {name for name, tensor in named if tensor.grad.count_nonzero() == 0}


@every_block
def test_module_is_deterministic_for_a_seed_and_leaves_its_input_alone(branch, shortcut, merge):
    x = torch.randn(2, 8, 8, 7, generator=torch.Generator().manual_seed(0))
    for block in blocks(branch, shortcut, merge, strides=(1, 2), widths=((8, 8), (8, 10))):
        outputs = []
        for _ in range(2):
            torch.manual_seed(1)
            module, given_x = block.module().train(), x.clone()
            outputs.append([module(given_x), *module.state_dict().values()])
            assert torch.equal(given_x, x), block
        assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True)), block


@pytest.mark.parametrize("raw", [False, True], ids=["activated", "raw"])
@pytest.mark.parametrize("part", [*all_variants(STEMS), *all_variants(HEADS)], ids=label)
def test_stem_and_head_cost_is_what_pytorch_counts(part, raw):
    layers = part.layers(raw) if isinstance(part, tuple(STEMS.values())) else part.layers(5, raw)
    module = module_of_layers(layers, 5)
    for size in (*SHAPES, (33, 32)):
        assert cost_of_layers(layers, Shape(5, *size)) == measured(module, (5, *size), "cpu")


@pytest.mark.parametrize("raw", [False, True], ids=["activated", "raw"])
@pytest.mark.parametrize("stem", all_variants(STEMS), ids=label)
def test_stem_gives_the_width_that_it_says(stem, raw):
    assert cost_of_layers(stem.layers(raw), Shape(3, 32, 32))[1].channels == stem.width


@pytest.mark.parametrize("raw", [False, True], ids=["activated", "raw"])
@pytest.mark.parametrize("head", all_variants(HEADS), ids=label)
def test_head_gives_as_many_logits_as_classes(head, raw):
    assert cost_of_layers(head.layers(6, raw), Shape(6, 4, 4))[1] == (head.classes, 1, 1)


@given(st.sampled_from(FIRST), st.integers(1, 20), st.integers(1, 20), st.integers(1, 7), st.data())
def test_shortcut_and_branch_agree_on_every_size(branch, height, width, stride, data):
    shortcut = data.draw(st.sampled_from([part for part in SHORTCUT_VARIANTS if fits(part, ADD, 4, 6, stride)]))
    shape, block = Shape(4, height, width), Block(branch, shortcut, ADD, 4, 6, stride)
    path = block.path()
    if path is not None:
        entered = cost_of_layers(block.entry(), shape)[1]
        assert cost_of_layers(path, entered)[1] == block.cost(shape)[1]


# Shortcuts and merges: what each computes, on numbers.


def run(layers, x):
    return module_of_layers(layers, x.shape[1]).eval()(x)


def test_zero_padding_keeps_every_other_pixel_and_appends_zeros():
    x = torch.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)
    y = run(SHORTCUTS["zero_pad"]().layers(3, 5, 2, True), x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 3:], torch.zeros(2, 2, 3, 2))
    assert torch.equal(run(SHORTCUTS["zero_pad"]().layers(3, 2, 1, True), x), x[:, :2])


def test_average_pool_shortcut_averages_what_the_window_has():
    pool, _ = SHORTCUTS["avg_pool"]().layers(1, 1, 2, True)
    x = torch.tensor([[[[1.0, 3.0, 10.0], [5.0, 7.0, 20.0], [100.0, 200.0, 1000.0]]]])
    assert torch.equal(run((pool,), x), torch.tensor([[[[4.0, 15.0], [150.0, 1000.0]]]]))


@pytest.mark.parametrize("merge", [merge for merge in all_variants(MERGES) if not merge.uses_shortcut], ids=label)
def test_without_a_shortcut_the_shortcut_costs_nothing(merge):
    shape = Shape(6, 8, 8)
    costs = {Block(basic.Basic(), part, merge, 6, 10, 2).cost(shape) for part in all_variants(SHORTCUTS)}
    assert len(costs) == 1


def test_plain_block_is_the_branch_and_a_residual_block_adds_its_input():
    torch.manual_seed(0)
    residual = Block(basic.Basic(), shortcuts.Identity(), ADD, 4, 4, 1).module().eval()
    plain = Block(basic.Basic(), shortcuts.Identity(), NONE, 4, 4, 1).module().eval()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        h = residual.branch(x)
        assert torch.equal(plain(x), h.relu())
        assert torch.equal(residual(x), (x + h).relu())


def test_preactivated_block_leaves_the_trunk_raw():
    """Identity Mappings in Deep Residual Networks, eq. 5: x + F(x), with nothing behind the sum."""
    block = Block(basic.Basic("pre"), shortcuts.Identity(), ADD, 4, 4, 1).module().eval()
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = block(x)
        assert torch.equal(y, x + block.branch(block.pre(x)))
    assert (y < 0).any()


def test_preactivated_block_projects_what_is_activated():
    """He et al. 2016, appendix: where the shape changes, the norm and ReLU stand before the branch and the shortcut."""
    block = Block(basic.Basic("pre"), PROJECTION, ADD, 4, 6, 2).module().eval()
    weights = list(block.state_dict().values())
    scale, shift, mean, variance, _, first, scale2, shift2, mean2, variance2, _, second, projection = weights
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    a = F.batch_norm(x, mean, variance, scale, shift).relu()
    h = F.batch_norm(F.conv2d(a, first, stride=2, padding=1), mean2, variance2, scale2, shift2).relu()
    expected = F.conv2d(a, projection, stride=2) + F.conv2d(h, second, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_weights_of_the_basic_block_are_18_c_squared(channels):
    cost, _ = basic.Basic().cost(Shape(channels, 1, 1), channels, 1)
    assert cost.params - 4 * channels == 18 * channels**2  # two norms of 2 C


def test_cardinality_divides_the_weights_of_the_3x3():
    """Xie et al. 2017, section 3.3: 256 channels, C = 32, d = 4 has C (256 d + 3 3 d d + d 256) weights, about 70 k."""
    cost, _ = bottleneck.Bottleneck(32, 4).cost(Shape(256, 1, 1), 256, 1)
    assert cost.params - 2 * (128 + 128 + 256) == 32 * (256 * 4 + 3 * 3 * 4 * 4 + 4 * 256)


def test_identity_refuses_to_change_the_shape():
    identity = shortcuts.Identity()
    for width_out, stride in ((8, 1), (4, 2)):
        block = Block(basic.Basic(), identity, ADD, 4, width_out, stride)
        with pytest.raises(UsageError, match="identity can't lead from 4"):
            block.cost(Shape(4, 8, 8))
        with pytest.raises(UsageError, match="use projection"):
            block.module()


def test_only_identity_refuses():
    """Every other shortcut leads between any two shapes, so that a space can't hold an illegal network."""
    refusing = {
        part.kind
        for part in all_variants(SHORTCUTS)
        for stride, (width_in, width_out) in itertools.product(STRIDES, WIDTHS)
        if not fits(part, ADD, width_in, width_out, stride)
    }
    assert refusing == {"identity"}


# Options and registries.


@pytest.mark.parametrize("noun", REGISTRIES)
def test_registry_knows_each_part_by_its_kind(noun):
    registry = REGISTRIES[noun]
    assert {name: kind.kind for name, kind in registry.items()} == {name: name for name in registry}
    assert all(dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen for kind in registry.values())


def test_registry_refuses_duplicates_and_suggests_the_nearest_name():
    registry = Registry("colour")
    registry.register("red")(1)
    with pytest.raises(ValueError, match="colour 'red' is registered already"):
        registry.register("red")(2)
    assert (registry.find("red"), list(registry), len(registry)) == (1, ["red"], 1)
    with pytest.raises(UsageError, match=r"unknown colour 'rad' \(did you mean 'red'\?\); known: red"):
        registry.find("rad")
    with pytest.raises(UsageError, match="unknown colour \\['red'\\]"):
        registry.find(["red"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_part_says_itself_as_plain_data_and_reads_it_back(kind):
    for part in variants(kind):
        data = part.to_dict()
        assert data.pop("kind") == part.kind
        assert kind.make(data) == part
        said = {name: value for name, value in part.changed_options().items() if name != "kind"}
        assert kind.make(said) == part
        assert all(value != getattr(kind(), name) for name, value in said.items())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_part_refuses_what_is_no_option_of_it(kind):
    with pytest.raises(UsageError, match=f"{kind.kind} has no option 'cardinalty'"):
        kind.make({"cardinalty": 2})


WRONG = [True, None, [], {}, "", "-1", float("nan"), float("inf")]


@pytest.mark.parametrize(
    ("kind", "field"),
    [pytest.param(kind, field, id=f"{kind.kind}-{field.name}") for kind in KINDS for field in dataclasses.fields(kind)],
)
def test_option_refuses_wrong_values(kind, field):
    wrong = [*WRONG, *([1.5] if isinstance(field.default, int) else [])]
    least, most, among = (field.metadata[key] for key in ("minimum", "maximum", "among"))
    if least is not None:
        wrong += [least - 1, (MAX_OPTION if most is None else most) + 1, 10**400]
    if among and not isinstance(field.default, str):
        wrong += [min(among) - 1, max(among) + 1]
    for value in wrong:
        with pytest.raises(UsageError, match=f"{kind.kind}: {field.name} must be"):
            kind(**{field.name: value})
    for value in option_values(field):
        assert getattr(kind(**{field.name: value}), field.name) == value


def test_whole_number_for_a_real_option_is_the_same_value():
    @dataclasses.dataclass(frozen=True, slots=True)
    class Dropping(Part):
        kind = "dropping"
        rate: float = option(0.1)

    assert repr(Dropping(1)) == repr(Dropping(1.0))
    with pytest.raises(UsageError, match="rate must be a finite number"):
        Dropping(float("nan"))


def test_cost_adds_and_multiplies():
    assert Cost(1, 2, 3) + 2 * Cost(10, 20, 30) == Cost(21, 42, 63) == Cost(1, 2, 3) + Cost(10, 20, 30) * 2


@pytest.mark.parametrize("base", [Branch, Shortcut, Merge, Stem, Head])
def test_a_part_without_its_layers_can_t_be_made(base):
    with pytest.raises(TypeError, match="abstract"):
        base()
