"""Peak memory of one training step, in bytes, by a walk over the network's layers: nothing is built, torch is not imported.

peak = weights + optimizer + gradients + activations + transient + images, at the moment of the step at which their sum is
largest. `Cost.activations` counts the output of each convolution once; PyTorch keeps more tensors for the backward pass:

    conv, norm, activation   2   the convolution's output, which the norm reads again, and the activation's, which the next
                                 convolution reads again. relu, relu6, leaky_relu and elu work in place on the norm's output.
                                 silu, hardswish and gelu read their input again: 3.
    last conv of a branch    1   and the sum (1) instead of the norm's output, which an addition doesn't read again
    squeeze-excitation       1   the product
    max pooling                  its output, and int64 indices

times 4 bytes in fp32 and 2 under bf16 autocast, which also keeps a bf16 copy of each weight and of the images. So the
nets of benchmarks/train.py keep 1.6 to 3.2 tensors per convolution output: 6 to 13 bytes in fp32, half of that in bf16,
times `Cost.activations` and the batch size. During the backward pass activations are freed while gradients (4 bytes per
parameter) are allocated; the walk takes the worst moment.

These are bytes allocated by PyTorch. A process takes more of a GPU, for the CUDA context, library workspaces and
fragmentation: `on_gpu` adds allowances, which no GPU has confirmed yet. benchmarks/memory.py compares predictions with
measured steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nas.networks.architecture import Architecture
from nas.networks.blocks import Block, Layer
from nas.networks.blocks.activations import KEEP_INPUT
from nas.networks.build import walk
from nas.networks.cost import Shape

FP32 = 4  # bytes
ELEMENT_BYTES = {"fp32": FP32, "bf16": 2}  # of a convolution's output
CAST_BYTES = {"fp32": 0, "bf16": 2}  # of autocast's copy of a weight or a pixel
CONTEXT_BYTES = 768 << 20  # allowance for each process on a GPU: CUDA context, cuDNN and cuBLAS with their workspaces
FRAGMENTATION = 1.15  # allowance: bytes that the caching allocator reserves for each byte allocated
EVALUATED = 4  # size of a validation batch, in training batches (`nas.training.workspace.Workspace`)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at a training step's peak, by use."""

    weights: int  # with the norms' statistics
    optimiser: int  # momentum, and the moving average if there is one
    gradients: int
    activations: int  # kept for the backward pass, with autocast's copies of weights
    transient: int  # gradients of activations
    images: int

    @property
    def total(self) -> int:
        return self.weights + self.optimiser + self.gradients + self.activations + self.transient + self.images


@dataclass(frozen=True, slots=True)
class Step:
    """A layer's part of the walk, per image except for `params`.

    kept: elements that the backward pass reads. extra: further bytes that it reads. largest: elements of gradients that are
    alive during the layer's backward pass. passing: elements that are alive during a forward pass without gradients.
    """

    params: int
    kept: int
    largest: int
    passing: int
    extra: int = 0


def training_memory(
    architecture: Architecture,
    batch: int,
    precision: str = "fp32",
    *,
    micro_batch: int | None = None,
    ema: bool = False,
    resolution: int | None = None,
) -> Memory:
    """Peak memory of a step of SGD with momentum on `batch` images, in micro-batches of at most `micro_batch`.

    ema: a moving average of the weights is kept. resolution: pixels, in place of the architecture's own. The gradients of one
    micro-batch are kept during the next ones.
    """
    at_once = min(micro_batch or batch, batch)
    element, casts = ELEMENT_BYTES[precision], CAST_BYTES[precision]
    steps = _steps(architecture, resolution)
    params = sum(step.params for step in steps)
    kept = before = 0
    worst = (0, 0, 0)
    for step in steps:
        kept += at_once * (step.kept * element + step.extra) + casts * step.params
        ready = params + step.params if at_once < batch else params - before  # gradients of this layer and later ones
        before += step.params
        transient = at_once * step.largest * element + casts * step.params
        worst = max(worst, (FP32 * ready, kept, transient), key=sum)
    gradients, kept, transient = worst
    weights = FP32 * params
    pixels = _pixels(architecture, resolution)
    return Memory(
        weights=weights,
        optimiser=weights + (weights if ema else 0),
        gradients=gradients,
        activations=kept,
        transient=transient,
        images=batch * pixels * (1 + FP32) + at_once * pixels * casts,
    )


def evaluation_bytes(architecture: Architecture, batch: int, precision: str = "fp32", *, ema: bool = False) -> int:
    """Peak memory of a forward pass without gradients over `batch` images, with the state of a training in memory."""
    steps = _steps(architecture)
    element, casts = ELEMENT_BYTES[precision], CAST_BYTES[precision]
    state = sum(step.params for step in steps) * (FP32 * (3 if ema else 2) + casts)
    pixels = _pixels(architecture) * (1 + FP32 + casts)
    return state + batch * (pixels + element * max(step.passing for step in steps))


def on_gpu(tensors: int) -> int:
    """Bytes that a process with so many bytes of tensors takes of a GPU: with allowances, not measured."""
    return CONTEXT_BYTES + int(FRAGMENTATION * tensors)


def largest_micro_batch(
    architecture: Architecture, batch: int, free: int, precision: str = "fp32", *, ema: bool = False
) -> int:
    """The largest of batch, batch / 2, batch / 4, ... whose step is predicted to fit into `free` bytes; at least 1."""
    size = batch
    while size > 1:
        step = training_memory(architecture, batch, precision, micro_batch=size, ema=ema)
        if step.total <= free:
            break
        size //= 2
    return size


def _pixels(architecture: Architecture, resolution: int | None = None) -> int:
    return architecture.channels * (resolution or architecture.resolution) ** 2


def _steps(architecture: Architecture, resolution: int | None = None) -> list[Step]:
    size = resolution or architecture.resolution
    shape = Shape(architecture.channels, size, size)
    steps: list[Step] = []
    for piece in walk(architecture):
        if piece.blocks:
            for block, times in piece.blocks:
                for _ in range(times):
                    steps += _of_block(block, shape)
                    shape = block.cost(shape)[1]
        else:
            chain, shape = _chain(piece.layers, shape)
            steps += chain
    return steps


def _chain(
    layers: Sequence[Layer], shape: Shape, *, last_is_kept: bool = True, alive: int = 0
) -> tuple[list[Step], Shape]:
    """Steps of consecutive layers, and the shape of their output. alive: elements of other tensors that are kept meanwhile."""
    steps = []
    for number, layer in enumerate(layers):
        cost, after = layer.cost(shape)
        inner, extra = layer.kept(shape)
        out = after.elements if last_is_kept or number < len(layers) - 1 else 0
        both = shape.elements + after.elements
        steps.append(Step(cost.params, inner + out, alive + max(2 * after.elements, both), alive + both, extra))
        shape = after
    return steps, shape


def _of_block(block: Block, shape: Shape) -> Iterator[Step]:
    """Steps of a block. The sum's gradient is kept during the branch's backward pass, unless there is no shortcut."""
    entry, entered = _chain(block.entry(), shape)
    _, width_out, stride = block.inner
    path, size = block.path(), block.cost(shape)[1].elements
    alone = path is None
    layers = block.branch.layers(entered.channels, width_out, stride)
    yield from entry
    yield from _chain(layers, entered, last_is_kept=alone, alive=0 if alone else size)[0]
    if path is not None:
        yield from _chain(path, entered, last_is_kept=False, alive=size)[0]
        yield Step(
            block.merge.cost(entered, width_out, stride).params, size * block.merge.kept_tensors, 2 * size, 3 * size
        )
    if block.branch.activation in KEEP_INPUT:
        yield Step(0, size, 2 * size, 2 * size)
