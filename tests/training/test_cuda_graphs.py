"""Steps as graphs give the weights that steps kernel by kernel give; and where there can be no graph, those are taken.

On a CPU a tape stands in for CUDA's graphs: it records the operations of a step once, and replays them on the same memory with
nothing of Python in between, so that whatever a graph would freeze is frozen here too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial

import pytest
import torch
from helpers_search import CLASSES, SIZE, images, space_of
from helpers_train import CHOICES, SPACE, batches, equal, network, saved, training, weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from nas.data import split
from nas.data.batches import Augment, Batches
from nas.data.training_data import TrainingData
from nas.execution.job import Job
from nas.execution.trial_training import TrialTraining
from nas.networks.blocks.modules import Dropped
from nas.networks.build import build
from nas.training.cuda_graphs import WARM, draws
from nas.training.distributed import Group
from nas.training.gradient_recorder import Recorder
from nas.training.recipe import Recipe
from nas.training.trainer import Training

pytestmark = pytest.mark.usefixtures("one_thread")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

LONG = Recipe(epochs=3, batch_size=16, learning_rate=0.1, warmup_epochs=1.0, label_smoothing=0.1)  # 3 x 3 steps


class Tape:
    """Operations in their order. What was made by one of them is found by identity; all else is memory that stays."""

    def __init__(self) -> None:
        self.warmed = self.captured = self.replayed = 0
        self.touched: list[torch.Tensor] = []  # what a capture must leave as it is

    def warm(self, run: Callable[[], None]) -> None:
        self.warmed += 1
        run()

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        before = [tensor.detach().clone() for tensor in self.touched]
        operations: list = []

        class Recording(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                result = function(*args, **(kwargs or {}))
                operations.append((function, args, kwargs or {}, result))
                return result

        with Recording():
            run()
        with torch.no_grad():
            for tensor, value in zip(self.touched, before, strict=True):
                tensor.copy_(value)
        return partial(self._replay, operations)

    def _replay(self, operations: list) -> None:
        self.replayed += 1
        made: dict[int, torch.Tensor] = {}

        def now(value):
            return made.get(id(value), value)

        with torch.no_grad():
            for function, args, kwargs, result in operations:
                new = function(*tree_map(now, args), **tree_map(now, kwargs))
                for old, fresh in zip(tree_flatten(result)[0], tree_flatten(new)[0], strict=True):
                    if isinstance(old, torch.Tensor):
                        made[id(old)] = fresh


def taped(make: Callable[..., Training], **options) -> tuple[Training, Tape]:
    """A training whose steps are recorded, and its tape. The momenta exist before the capture, whose first steps make them."""
    tape = Tape()
    one = make(recorder=tape, **options)
    original = tape.capture

    def capture(run):
        momenta = [state["momentum_buffer"] for state in one.optimiser.state_dict()["state"].values() if state]
        tape.touched = [*one.network.parameters(), *one.network.buffers(), *filter(torch.is_tensor, momenta), one._loss]
        return original(run)

    tape.capture = capture
    return one, tape


def ends(one: Training, epochs: int) -> tuple:
    records = [one.epoch() for _ in range(epochs)]
    return weights(one.network), one.optimiser.state_dict(), [(e.train_loss, e.val_loss, e.accuracy) for e in records]


def same(one: tuple, other: tuple) -> None:
    assert equal(one[0], other[0])
    assert one[1]["param_groups"] == other[1]["param_groups"]  # rates too, as numbers
    assert one[1]["state"].keys() == other[1]["state"].keys()
    for mine, expected in zip(one[1]["state"].values(), other[1]["state"].values(), strict=True):
        for name, value in expected.items():
            assert mine[name] is value is None or torch.equal(mine[name], value)
    assert one[2] == other[2]


def plainly(recipe: Recipe, count: int = 48, whole: bool = True, **options) -> Training:
    x, y = images(count, 0)
    data = Batches(
        x, y, mean=(0.4,), std=(0.25,), batch_size=16, device=options.pop("device", "cpu"), seed=3, drop_last=whole,
        augment=Augment(crop_padding=1, flip=True),
    )  # fmt: skip
    return Training(network(), data, batches(32, 1, str(data.device), 64, train=False), recipe, **options)


VARIANTS = {
    "plain": {},
    "no smoothing": {"label_smoothing": 0.0},
    "no momentum": {"momentum": 0.0},
    "weights alone decay": {"decay": "weights"},
    "averaged": {"ema": 0.9},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_steps_give_the_weights_of_single_ones_to_the_bit(variant, precision):
    recipe = Recipe.from_dict({**LONG.to_dict(), **VARIANTS[variant]})
    one, tape = taped(partial(plainly, recipe), precision=precision)
    same(ends(one, 3), ends(plainly(recipe, precision=precision), 3))
    assert (tape.warmed, tape.captured, tape.replayed) == (WARM, 1, 9 - WARM)
    assert one.singly == ""
    other = plainly(recipe, precision=precision)
    ends(other, 3)
    assert equal(weights(one.result), weights(other.result))


def test_a_short_last_batch_is_a_step_of_its_own():
    one, tape = taped(partial(plainly, LONG, count=55, whole=False))
    same(ends(one, 3), ends(plainly(LONG, count=55, whole=False), 3))
    assert (tape.warmed, tape.replayed) == (WARM, 3 * 3 - WARM)


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("recipe", [LONG, Recipe.from_dict({**LONG.to_dict(), "ema": 0.9})], ids=["plain", "averaged"])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(stop, recipe):
    through = ends(plainly(recipe), 3)
    first, _ = taped(partial(plainly, recipe))
    before = ends(first, stop)
    second, tape = taped(partial(plainly, recipe))
    second.load(saved(first.state()))
    after = ends(second, 3 - stop)
    same((after[0], after[1], before[2] + after[2]), through)
    assert tape.warmed == WARM  # behind the loading, and on the state that was loaded


def test_loading_into_a_training_that_has_a_graph_captures_anew():
    one, tape = taped(partial(plainly, LONG))
    one.epoch()
    state = saved(one.state())
    first = ends(one, 2)
    one.load(state)
    same(ends(one, 2), first)
    assert tape.captured == 2


def test_a_capture_that_fails_leaves_the_state_and_the_training_goes_on_singly():
    class Broken(Tape):
        def capture(self, run):
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    one = plainly(LONG, recorder=Broken())
    same(ends(one, 3), ends(plainly(LONG), 3))
    assert one.singly == "RuntimeError: operation not permitted when stream is capturing"


def test_a_half_recorded_step_leaves_no_gradients_behind():
    class Late(Tape):
        def capture(self, run):
            for parameter in one.network.parameters():
                parameter.grad = torch.full_like(parameter, 1e9)
            raise torch.OutOfMemoryError("too large")

    one = plainly(LONG, recorder=Late())
    same(ends(one, 3), ends(plainly(LONG), 3))
    assert one.singly == "OutOfMemoryError: too large"


def test_errors_of_training_itself_are_not_swallowed():
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(SIZE * SIZE, CLASSES)

        def forward(self, x):
            raise torch.OutOfMemoryError("none left")

    one = Training(Failing(), batches(), batches(32, 1, train=False), LONG, recorder=Tape())
    with pytest.raises(torch.OutOfMemoryError):
        one.epoch()


# -- where there is no graph -------------------------------------------------------------------------------------------


def gated() -> nn.Module:
    space = space_of(SPACE + "  merge: skip\n", resolution=SIZE, classes=CLASSES)
    return build(space.architecture(space.sample(0)), seed=0)


def dropping() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(SIZE * SIZE, CLASSES))


EXCLUDED = {
    "gates decide": lambda **more: Training(gated(), batches(), batches(32, 1, train=False), LONG, **more),
    "differs between pieces": lambda **more: training(LONG, rates=lambda piece, epoch: float(piece != "stem"), **more),
    "passes in parts": lambda **more: training(LONG, micro_batch=8, **more),
    "draws at random": lambda **more: Training(dropping(), batches(), batches(32, 1, train=False), LONG, **more),
}


@pytest.mark.parametrize("reason", EXCLUDED)
def test_where_a_step_can_be_no_graph_it_is_taken_singly(reason):
    tape = Tape()
    one = EXCLUDED[reason](recorder=tape)
    assert reason in one.singly
    same(ends(one, 2), ends(EXCLUDED[reason](), 2))
    assert (tape.warmed, tape.captured) == (0, 0)


def test_a_group_of_processes_has_no_graphs():
    one = training(LONG, recorder=Tape(), group=Group(0, 2))
    assert one.singly == "several processes share a batch" and one._step is None


def test_while_gradients_are_watched_steps_are_taken_singly():
    tape, seen = Tape(), []
    one = training(LONG, recorder=tape)
    one.after_backward = lambda step: seen.append((step, all(p.grad is not None for p in one.network.parameters())))
    one.epoch()
    assert seen == [(0, True), (1, True), (2, True)] and tape.warmed == 0


def test_what_draws():
    assert draws(nn.Sequential(nn.Dropout(0.1))) and draws(nn.Sequential(Dropped(0.1)))
    assert not draws(nn.Sequential(nn.Dropout(0.0), Dropped(0.0), nn.BatchNorm2d(3)))


def test_on_a_cpu_an_engine_with_graphs_changes_nothing():
    from nas.training.conv_kernels import Engine

    one = training(LONG, engine=Engine(graphs=True))
    assert one._step is None and one.singly == ""


def test_a_trial_writes_down_why_it_had_no_graph(tmp_path, monkeypatch):
    x, y = images(40)
    data = TrainingData(x, y, *split(y, 0.25, 1), (0.4,), (0.25,), False, 1)
    architecture = space_of(SPACE, resolution=SIZE, classes=CLASSES).architecture(CHOICES)
    found = {}
    for name, recorder in (("broken", Tape()), ("none", None)):
        if recorder:
            monkeypatch.setattr(recorder, "capture", lambda run: 1 / 0)
        monkeypatch.setattr("nas.execution.trial_training.Training", partial(Training, recorder=recorder))
        bench = TrialTraining(data, Recipe(epochs=5, batch_size=16, warmup_epochs=0.5), device="cpu")
        epochs = list(bench.run(Job(name, tmp_path / name, architecture, 0)))
        found[name] = json.loads((tmp_path / name / "result.json").read_text())
        assert len(epochs) == 5 and found[name]["state"] == "complete"
    assert found["broken"]["singly"] == "ZeroDivisionError: division by zero"
    assert "singly" not in found["none"]
    assert found["broken"]["accuracy"] == found["none"]["accuracy"]


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_a_gpu_real_graphs_give_the_weights_of_single_kernels(variant, precision):
    from nas.training.conv_kernels import Engine

    torch.backends.cudnn.deterministic = True
    recipe = Recipe.from_dict({**LONG.to_dict(), **VARIANTS[variant]})
    found = {}
    for graphs in (False, True):
        one = plainly(recipe, precision=precision, device="cuda", engine=Engine(graphs=graphs))
        first = one.epoch()
        state = copy.deepcopy(one.state())
        rest = ends(one, 2)
        assert one.singly == "" and (one._step is not None) == graphs
        two = plainly(recipe, precision=precision, device="cuda", engine=Engine(graphs=graphs))
        two.load(state)
        resumed = ends(two, 2)
        found[graphs] = (first.train_loss, rest, resumed)
    for place in (1, 2):
        for name, expected in found[False][1][0].items():
            torch.testing.assert_close(found[True][place][0][name], expected, rtol=1e-3, atol=1e-4)
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_gradients_take_their_steps_singly_and_leave_the_others_to_the_graph(precision):
    one, tape = taped(partial(plainly, LONG, precision=precision))
    recorder = Recorder(one, 1)
    records = [recorder.epoch() for _ in range(3)]
    found = weights(one.network), one.optimiser.state_dict(), [(e.train_loss, e.val_loss, e.accuracy) for e in records]
    same(found, ends(plainly(LONG, precision=precision), 3))
    steps, moments = 3 * 3, 3
    assert tape.warmed + tape.replayed == steps - moments
    assert tape.replayed > 0
    assert [moment.epoch for moment in recorder.flow.moments] == [0, 2, 3]
