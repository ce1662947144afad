"""Dynamic networks: expected costs against PyTorch's own count, learnt gates, executed multiply-adds, real skipping."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from helpers_cli import output
from helpers_search import CLASSES, SIZE, images, training_data
from hypothesis import given
from hypothesis import strategies as st
from make_run import make_run
from oracles import measured
from strategies import architectures
from torch import nn

from nas.data.batches import Augment, Batches
from nas.errors import UsageError
from nas.execution.job import Job
from nas.execution.trial_training import TrialTraining
from nas.networks import zoo
from nas.networks.architecture import Architecture, Stage
from nas.networks.blocks import BRANCHES, HEADS, MERGES, SHORTCUTS, STEMS
from nas.networks.build import build, cost_of
from nas.runs.run import load_run
from nas.training.gates import computation_loss, counting, expected_cost, gated_branches, gates, skipping
from nas.training.recipe import Recipe
from nas.training.records import RESULT, Execution
from nas.training.trainer import Training, evaluate
from nas.utils.files import read_json, write_json

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.1, warmup_epochs=0.5)


def dynamic(
    branch: str = "basic", depth: int = 2, shortcut: str = "projection", head: dict | None = None, widths=(6, 8), **skip
) -> Architecture:
    stages = [
        Stage(BRANCHES[branch](), depth, width, stride, SHORTCUTS[shortcut](), MERGES["skip"](**skip))
        for width, stride in zip(widths, (1, 2), strict=True)
    ]
    return Architecture(
        STEMS["cifar"](6), tuple(stages), HEADS["linear"](CLASSES, **(head or {})), SIZE, 1, name="dynamic"
    )


def batches(count: int = 96, seed: int = 0, size: int = 16, train: bool = True) -> Batches:
    x, y = images(count, seed)
    return Batches(
        x, y, mean=(0.4,), std=(0.25,), batch_size=size, device="cpu", seed=3, drop_last=train,
        augment=Augment(crop_padding=1, flip=False) if train else None,
    )  # fmt: skip


def training(architecture: Architecture, recipe: Recipe = RECIPE, count: int = 96) -> Training:
    return Training(build(architecture, seed=0), batches(count), batches(40, 1, 64, train=False), recipe)


def split_gates(network: nn.Module) -> None:
    """Gates that let about half of the images through, by their features."""
    for place, merge in enumerate(gates(network)):

        class Half(nn.Module):
            def __init__(self, place: int) -> None:
                super().__init__()
                self.place = place

            def forward(self, x):
                means = x.mean((2, 3))[:, self.place % x.shape[1]]
                return (means - means.median()).view(-1, 1)

        merge.gate = Half(place)


# -- expected costs ----------------------------------------------------------------------------------------------------


@given(architectures(), st.integers(1, 40))
def test_the_worst_case_is_the_cost_and_static_networks_have_no_other(architecture, resolution):
    worst, best = (expected_cost(architecture, share, resolution) for share in (1.0, 0.0))
    assert worst == cost_of(architecture, resolution)
    assert best.params == worst.params and best.macs <= worst.macs and best.activations <= worst.activations
    gated = gated_branches(architecture, resolution)
    assert (best == worst) == (sum(branch.activations for branch in gated.values()) == 0)


@pytest.mark.parametrize("branch", ["basic", "bottleneck", "convnext", "mbconv"])
@pytest.mark.parametrize("resolution", [8, 11])
def test_a_branch_s_multiply_adds_are_what_pytorch_counts_less_without_it(branch, resolution):
    architecture = dataclasses.replace(dynamic(branch, gate="conv"), resolution=resolution)
    with torch.device("meta"):
        whole, spared = build(architecture), build(architecture)
    skipped = {"stage1.block2", "stage2.block2"}

    class Nothing(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    spared.stages[0][1].branch = spared.stages[1][1].branch = Nothing()
    macs = [measured(network, (1, resolution, resolution))[0].macs for network in (whole, spared)]
    shares = {name: float(name not in skipped) for name in gated_branches(architecture)}
    assert len(shares) == 4
    assert [cost_of(architecture).macs, expected_cost(architecture, shares).macs] == macs


def test_the_expected_cost_is_linear_in_the_shares():
    architecture = dynamic()
    worst, best, half = (expected_cost(architecture, share).macs for share in (1.0, 0.0, 0.5))
    assert half == pytest.approx((worst + best) / 2, abs=1)
    assert expected_cost(architecture).macs == half
    branches = gated_branches(architecture)
    shares = dict(zip(branches, (0.1, 0.4, 0.7, 1.0), strict=True))
    expected = best + sum(shares[name] * branch.macs for name, branch in branches.items())
    assert expected_cost(architecture, shares).macs == pytest.approx(expected, abs=1)


def test_blocks_without_a_way_around_have_no_gate():
    assert list(gated_branches(dynamic(shortcut="matching"))) == ["stage1.block1", "stage1.block2", "stage2.block2"]
    assert len(gates(build(dynamic(shortcut="matching")))) == 3
    assert gated_branches(zoo.get("resnet18")) == {}


@pytest.mark.parametrize(
    ("executed", "message"),
    [
        (1.5, "share of stage1.block1 must be from 0 to 1, not 1.5"),
        (math.nan, "must be from 0 to 1"),
        ({"stage1.blok1": 1.0}, r"no block 'stage1.blok1' with a gate \(did you mean 'stage1.block1'\?\)"),
        ({"stage1.block1": 1.0}, "no share for stage1.block2, stage2.block1, stage2.block2"),
    ],
)
def test_shares_that_can_not_be_are_refused(executed, message):
    with pytest.raises(UsageError, match=message):
        expected_cost(dynamic(), executed)


def test_profile_shows_the_worst_case_and_the_range(tmp_path):
    architecture, config = dynamic(), tmp_path / "dynamic.yaml"
    config.write_text(architecture.to_yaml())
    shown = output("profile", config)
    assert "4 blocks with a gate" in shown and "(all skipped)" in shown
    facts = json.loads(output("profile", config, "resnet18", "--json"))
    assert facts[0]["macs"] == cost_of(architecture).macs
    assert facts[0]["least_macs"] == expected_cost(architecture, 0.0).macs < facts[0]["macs"]
    assert facts[1]["least_macs"] == facts[1]["macs"]
    assert "gate" not in output("profile", "resnet18")


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_computation_is_priced_by_the_share_of_the_network_that_runs():
    architecture = dynamic(price=2.0)
    network = build(architecture, seed=0).train()
    split_gates(network)
    network(torch.randn(10, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    branches, total = gated_branches(architecture), cost_of(architecture).macs
    expected = 0.0
    for merge in gates(network):
        share = merge.executed.mean().item()
        assert 0.3 < share < 0.8
        expected += 2.0 * branches[merge.place].macs / total * share
    assert computation_loss(gates(network)).item() == pytest.approx(expected)


def test_the_recorded_loss_is_the_cross_entropy_alone():
    """A step at learning rate 0 changes nothing but the statistics: a price must not show in the record."""
    still = dataclasses.replace(RECIPE, learning_rate=0.0)
    losses = [training(dynamic(price=price), still).epoch().train_loss for price in (0.0, 50.0)]
    assert losses[0] == losses[1] < 10


@pytest.mark.slow
def test_a_price_closes_gates_and_without_one_accuracy_stays():
    recipe = Recipe(epochs=10, batch_size=16, learning_rate=0.1, warmup_epochs=1.0)
    found = {}
    for price in (0.0, 20.0):
        trained = training(dynamic(price=price), recipe, count=192)
        epochs = [trained.epoch() for _ in range(recipe.epochs)]
        found[price] = epochs[-1].accuracy, trained.executed()
    (free, open_), (_, closed) = found[0.0], found[20.0]
    assert free > 0.9
    assert min(open_.shares.values()) > 0.5
    assert sum(closed.shares.values()) < 0.5 * sum(open_.shares.values())
    assert closed.macs < open_.macs <= cost_of(dynamic()).macs


def test_a_gate_learns_to_tell_images_apart():
    """Two kinds of images: for one the branch is right, for the other the shortcut. Price 0, plain SGD."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    merge = MERGES["skip"](price=0.0).module(4, 4, 1).train()
    optimizer = torch.optim.SGD(merge.parameters(), lr=0.5, momentum=0.9)
    kind = torch.arange(64) % 2
    x = torch.rand(64, 4, 3, 3, generator=generator)
    x[:, 0] += 2 * kind.view(-1, 1, 1)
    branch = torch.ones_like(x)
    for _ in range(100):
        loss = (merge(x, torch.zeros_like(x), branch) - kind.view(-1, 1, 1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    merge.eval()(x, torch.zeros_like(x), branch)
    assert torch.equal(merge.executed, kind.float())


# -- executed multiply-adds --------------------------------------------------------------------------------------------


def test_executed_multiply_adds_are_the_mean_over_images():
    architecture = dynamic()
    network = build(architecture, seed=0).eval()
    split_gates(network)
    data = batches(40, 1, 16, train=False)
    with counting(network) as counter:
        evaluate(network, data)
    execution = counter.execution()
    branches, total = gated_branches(architecture), cost_of(architecture).macs
    costs = []
    with torch.no_grad():
        for x, _ in data.epoch(0):
            network(x)
            spared = sum((1 - merge.executed) * branches[merge.place].macs for merge in gates(network))
            costs += (total - spared).tolist()
    assert execution.images == len(costs) == 40
    assert execution.macs == pytest.approx(sum(costs) / 40)
    assert execution.macs == pytest.approx(expected_cost(architecture, execution.shares).macs, abs=1)
    assert expected_cost(architecture, 0.0).macs < execution.macs < total
    network(torch.zeros(1, 1, SIZE, SIZE))  # outside nothing is counted
    assert counter.execution() == execution


def test_a_static_network_executes_what_it_costs():
    network = build(zoo.get("resnet20").adapted(classes=CLASSES, resolution=SIZE, channels=1), seed=0)
    with counting(network) as counter:
        evaluate(network, batches(16, train=False))
    assert counter.execution() is None


def test_a_trial_of_a_dynamic_network_says_what_it_executed(tmp_path):
    bench = TrialTraining(training_data(), dataclasses.replace(RECIPE, epochs=1), device="cpu")
    list(bench.run(Job("1", tmp_path / "1", dynamic(), 0)))
    result = read_json(tmp_path / "1" / RESULT)
    assert result["state"] == "complete", result["reason"]
    execution = Execution.from_dict(result["executed"])
    assert execution.to_dict() == result["executed"]
    assert list(execution.shares) == list(gated_branches(dynamic()))
    assert execution.images == len(training_data().validation_index)
    static = dataclasses.replace(dynamic(), stages=(Stage(BRANCHES["basic"](), 1, 6),))
    list(bench.run(Job("2", tmp_path / "2", static, 0)))
    assert "executed" not in read_json(tmp_path / "2" / RESULT)


def test_runs_show_what_was_executed_and_read_results_without_it(tmp_path):
    folder = make_run(tmp_path / "run", trials=3)
    path = folder / "trials" / "1" / RESULT
    execution = Execution(1234.5, {"stage1.block1": 0.25}, 40)
    write_json(path, {**read_json(path), "executed": execution.to_dict()})
    run = load_run(folder)
    assert [trial.executed for trial in run.trials if trial.number >= 0] == [None, execution, None]
    column = run.dataframe().set_index("number")["executed_macs"]
    assert column[1] == 1234.5 and column.drop(1).isna().all()


# -- real skipping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("branch", ["basic", "bottleneck", "condconv", "convnext", "mbconv"])
def test_skipping_gives_the_logits_of_masks(branch, memory_format):
    network = build(dynamic(branch), seed=0).train().to(memory_format=memory_format)
    x = torch.randn(32, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format)
    network(x)
    split_gates(network)
    network.eval()
    seen = []
    network.stages[0][1].branch.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        masked = network(x)
        with skipping(network):
            skipped = network(x)
            with counting(network) as counter:
                network(x)
        again = network(x)
    torch.testing.assert_close(skipped, masked, rtol=1e-6, atol=1e-6)
    assert torch.equal(again, masked)
    assert seen[0] == seen[3] == 32 and 0 < seen[1] == seen[2] < 32
    assert counter.execution().shares["stage1.block2"] == seen[1] / 32


def test_skipping_changes_nothing_in_training():
    x = torch.randn(8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    outputs = []
    for inside in (False, True):
        network = build(dynamic(), seed=0).train()
        split_gates(network)
        if inside:
            with skipping(network):
                outputs.append(network(x))
        else:
            outputs.append(network(x))
    assert torch.equal(*outputs)


def test_masks_can_be_exported():
    network = build(dynamic(), seed=0).eval()
    x = torch.randn(4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(network, (x,)).module()
    assert all(merge.executed is None for merge in gates(network))
    torch.testing.assert_close(exported(x), network(x))


# -- randomness --------------------------------------------------------------------------------------------------------


def restless() -> Architecture:
    """Stochastic depth, dropout and skip gates in one network."""
    gated = dynamic(head={"dropout": 0.3}, price=1.0)
    dropped = Stage(BRANCHES["basic"](), 2, 8, 1, SHORTCUTS["projection"](), MERGES["add"](drop=0.5))
    return dataclasses.replace(gated, stages=(*gated.stages, dropped))


def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one():
    whole = training(restless())
    losses = [whole.epoch().train_loss for _ in range(RECIPE.epochs)]
    torch.manual_seed(99)  # whatever else has drawn from the generator
    first = training(restless())
    assert first.epoch().train_loss == losses[0]
    torch.rand(7)
    second = training(restless())
    second.load(first.state())
    assert [second.epoch().train_loss for _ in range(2)] == losses[1:]
    for one, other in zip(whole.network.state_dict().values(), second.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_epochs_draw_other_numbers_and_leave_the_generator_as_it_was():
    still = dataclasses.replace(RECIPE, learning_rate=0.0)
    trained = training(restless(), still)
    drawn = []
    dropout = next(module for module in trained.network.modules() if isinstance(module, nn.Dropout))
    dropout.register_forward_hook(lambda module, _, y: drawn.append(y == 0) if module.training else None)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    trained.epoch()
    assert torch.equal(torch.get_rng_state(), before)
    first = list(drawn)
    drawn.clear()
    trained.epoch()
    assert not all(map(torch.equal, first, drawn))


# -- every design trains -----------------------------------------------------------------------------------------------

PAIRS = [(branch, merge) for branch in BRANCHES for merge in MERGES]


@pytest.mark.slow
@pytest.mark.parametrize(("branch", "merge"), PAIRS, ids="-".join)
def test_every_branch_trains_with_every_merge(branch, merge):
    stages = tuple(
        Stage(BRANCHES[branch](), 2, width, stride, SHORTCUTS["projection"](), MERGES[merge]())
        for width, stride in ((8, 1), (16, 2))
    )
    architecture = Architecture(STEMS["cifar"](8), stages, HEADS["linear"](CLASSES), SIZE, 1)
    trained = training(architecture, Recipe(epochs=1, batch_size=16, learning_rate=0.05, warmup_epochs=0.5))
    epoch = trained.epoch()
    assert math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)
    assert all(tensor.isfinite().all() for tensor in trained.network.state_dict().values())
