"""Within an epoch the host never waits for the device: no value is read, no shape depends on data, no copy blocks.

Without a GPU, tensors on one are feigned (`FakeTensorMode`: devices and shapes, no numbers) where no gradient is needed, and
the training itself is watched on the CPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers_search import CLASSES, SIZE
from helpers_train import batches, network, training
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nas.data.batches import Augment, Batches
from nas.training.conv_kernels import Engine
from nas.training.optimizer import Average, Optimiser
from nas.training.recipe import Recipe
from nas.training.trainer import Training, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "_unique2", "bincount"}
RECIPE = Recipe(epochs=2, batch_size=16, warmup_epochs=0.5, ema=0.9)


def _feigns() -> bool:
    try:
        with FakeTensorMode():
            return torch.zeros(1, device="cuda").to("cpu").to("cuda").is_cuda
    except RuntimeError:  # PyTorch 2.9
        return False


feigned = pytest.mark.skipif(not _feigns(), reason="this PyTorch feigns no GPU where there is no driver")


class Waited(AssertionError):
    """The host would wait for the device."""


class Watch(TorchDispatchMode):
    """Raises `Waited` for operations that make the host wait; those on tensors in the host's memory do not, if on a GPU."""

    def __init__(self, device: str, but: torch.Tensor | None = None) -> None:
        super().__init__()
        self.device = device
        self.but = but  # may be read
        self.copies = self.reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        there = [arg for arg in args if isinstance(arg, torch.Tensor) and arg.device.type == self.device]
        if name in READS and there:
            self.reads += 1
            if args[0] is not self.but:
                raise Waited(f"{name} of {there[0].shape}")
        if name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1]):
            raise Waited("an index of booleans")
        if name == "_pin_memory":
            return args[0]
        if name == "_fused_sgd_":  # can't be feigned; what it is given must be there
            assert all(tensor.device.type == self.device for tensor in (*args[0], *args[1], *args[2]))
            return None
        result = function(*args, **kwargs)
        if name == "_to_copy" and args[0].device != result.device:
            self.copies += 1
            if not kwargs.get("non_blocking"):
                raise Waited(f"a copy of {args[0].shape} from {args[0].device} to {result.device}")
        if name == "copy_" and args[0].device != args[1].device and not (len(args) > 2 and args[2]):
            raise Waited(f"a copy of {args[1].shape} from {args[1].device} to {args[0].device}")
        return result


def coloured(device: str, train: bool = True, **options) -> Batches:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (40, 8, 8, 3), np.uint8), random.integers(0, CLASSES, 40)
    return Batches(
        x, y, mean=(0.4,) * 3, std=(0.25,) * 3, batch_size=16, device=device, drop_last=train,
        augment=Augment(crop_padding=1, flip=True, cutout=3, randaugment=9) if train else None, **options,
    )  # fmt: skip


# -- on a GPU that is feigned ------------------------------------------------------------------------------------------


@feigned
@pytest.mark.parametrize(
    "options", [{}, {"resolution": 12}, {"index": np.arange(5, 38)}], ids=["whole", "resized", "part"]
)
@pytest.mark.parametrize("train", [True, False])
def test_batches_reach_a_gpu_without_a_wait(train, options):
    with FakeTensorMode(allow_non_fake_inputs=True):
        data = coloured("cuda", train, **options)
        with Watch("cuda") as watch:
            found = [(x.device.type, tuple(x.shape[1:])) for x, _ in data.epoch(0)]
    side = options.get("resolution", 8)
    assert set(found) == {("cuda", (3, side, side))} and len(found) == len(data)
    assert watch.copies


@feigned
def test_the_steps_of_optimiser_and_average_do_not_wait_for_a_gpu():
    model = network()
    average = Average(model, 0.9)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, average.module = model.to("cuda"), average.module.to("cuda")
        optimiser = Optimiser(model, RECIPE)
        assert (
            average.module.head.linear.weight.device.type == "cuda" if hasattr(average.module.head, "linear") else True
        )
        rate = torch.zeros((), device="cuda")
        with Watch("cuda"):
            for at in (0.1, rate):
                for parameter in model.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                optimiser.step(at)
                average.update_parameters(model)


@feigned
@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: torch.ones(3).to("cuda"),
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: x.copy_(torch.ones(3)),
    ],
)
def test_the_watch_sees_what_waits(wait):
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(Waited):
        x = torch.zeros(3, device="cuda")
        with Watch("cuda"):
            wait(x)


# -- training, on the CPU ----------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A network that reads a number in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIZE * SIZE, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x.flatten(1))
        return y * float(y.detach().mean())


def reads(one: Training) -> int:
    """How often an epoch of training reads its loss; Waited if it reads anything else."""
    with Watch("cpu", but=one._loss) as watch:
        one._train_one(0)
    return watch.reads


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("micro_batch", [None, 8])
def test_a_training_reads_its_loss_once_an_epoch(precision, micro_batch):
    recipe = Recipe(epochs=2, batch_size=16, warmup_epochs=0.5)
    assert reads(training(recipe, precision=precision, micro_batch=micro_batch)) == 1


def test_a_network_that_reads_is_seen():
    one = Training(
        Watched(), batches(), batches(32, 1, train=False), Recipe(epochs=2, batch_size=16, warmup_epochs=0.5)
    )
    with pytest.raises(Waited, match="_local_scalar_dense"):
        reads(one)


def test_evaluation_reads_its_two_numbers_once_and_together():
    read = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket.__name__ in READS:
                read.append(function)
            return function(*args, **(kwargs or {}))

    with Reads():
        evaluate(network(), batches(37, 5, size=8, train=False))
    assert read == []  # `tolist` copies the two to the host


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("engine", [Engine(), Engine(graphs=True)], ids=["single kernels", "graphs"])
def test_a_real_gpu_is_not_waited_for(engine):
    one = training(RECIPE, device="cuda", engine=engine)
    one.epoch()
    one.epoch()  # by now there is a graph
    steps = one.train_batches.epoch

    def strict(*args):
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield from steps(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    one.train_batches.epoch = strict
    one.epoch()
