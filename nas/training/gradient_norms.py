"""Gradient norms by layer during training.

For a layer y = f(x; W) and the loss L of a step (the mean over its images): ||dL/dy|| and ||dL/dW||, the Euclidean norms
over all elements of the tensor. dL/dy comes from hooks on the layers' outputs, dL/dW from the parameter. Recording changes
nothing: the weights are the same bits with and without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from nas.networks.blocks.plain_modules import SqueezeExcite
from nas.training.gradient_flow import STEPS, Layer, Moment

_OFF_PATH = {"shortcut", "merge", "gate"}  # parts of a block other than its branch


class GradientHooks:
    """Hooks on the layers with weights, and on their outputs. A context manager: exiting removes them.

    >>> with GradientHooks(network) as hooks:
    ...     loss(network(x)).backward()
    ...     outputs, weights = hooks.read()

    A hook of a tensor sees dL/dy before an operation that overwrites y in place, and at the first layer too, whose input needs
    no gradient: a module's backward hooks would forbid the one, and warn of the other in some releases of PyTorch.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._modules, self.layers = _layers(network)
        self._outputs: list[Tensor | None] = [None] * len(self._modules)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        for place, module in enumerate(self._modules):
            self._handles.append(module.register_forward_hook(self._hook(place)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def read(self) -> tuple[Tensor, Tensor]:
        """||dL/dy|| and ||dL/dW|| of a step, (layers,) float32 each; NaN for layers without a gradient.

        With micro-batches, dL/dy is over all images of the step.
        """
        nothing = torch.full((), torch.nan)
        outputs = [nothing if norm is None else norm for norm in self._outputs]
        weights = [
            nothing if (gradient := _weight(module).grad) is None else _norm(gradient) for module in self._modules
        ]
        self._outputs = [None] * len(self._modules)
        device = next(self._network.parameters()).device
        return tuple(torch.stack([norm.to(device) for norm in norms]) for norms in (outputs, weights))  # type: ignore[return-value]

    def _hook(self, place: int) -> Any:
        def record(gradient: Tensor) -> None:
            norm, before = _norm(gradient), self._outputs[place]  # before: of the step's earlier micro-batches
            self._outputs[place] = norm if before is None else torch.hypot(before, norm)

        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(record)  # type: ignore[no-untyped-call]

        return hook


class GradientWatch:
    """The moments of a training: the first `window` steps of its first epoch, and the last `window` of every or some epochs.

    The training calls `after_backward` when a step's gradients are there, or `after_step` after a step without hooks. Steps
    outside the windows run without hooks.
    """

    def __init__(self, network: nn.Module, steps_per_epoch: int, window: int = STEPS) -> None:
        self._hooks = GradientHooks(network)
        self._steps = steps_per_epoch
        self._window = min(window, steps_per_epoch)
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}  # by step of the epoch
        self.hooked = False  # whether the hooks are on for the next step

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._hooks.layers

    def begin(self, epoch: int, *, last: bool = True) -> None:
        """Epoch `epoch`, from 1, is about to start. last: whether its last steps are a moment."""
        self._epoch, self._last = epoch, last
        self._seen.clear()
        self._prepare(0)

    def after_backward(self, step: int) -> None:
        """A step, counted from 0 over the whole training, has its gradients."""
        place = step % self._steps
        if self.hooked:
            self._seen[place] = self._hooks.read()
        self._prepare(place + 1)

    def after_step(self, step: int) -> None:
        """A step, counted from 0 over the whole training, is over."""
        self._prepare(step % self._steps + 1)

    def end(self) -> tuple[Moment, ...]:
        """Remove the hooks after an epoch that ended or failed; its moments."""
        self._prepare(self._steps)
        windows = [(self._epoch, range(self._steps - self._window, self._steps))] if self._last else []
        if self._epoch == 1:
            windows.insert(0, (0, range(self._window)))
        moments = []
        for epoch, window in windows:
            seen = [self._seen[place] for place in window if place in self._seen]
            if seen:
                outputs, weights = (torch.stack(norms).mean(0).tolist() for norms in zip(*seen, strict=True))
                moments.append(Moment(epoch, len(seen), _finite(outputs), _finite(weights)))
        return tuple(moments)

    def _prepare(self, place: int) -> None:
        """Add the hooks if the epoch's step `place` is in a window, remove them if it is not."""
        first = self._epoch == 1 and place < self._window
        wanted = place < self._steps and (first or (self._last and place >= self._steps - self._window))
        if wanted and not self.hooked:
            self._hooks.__enter__()
        elif self.hooked and not wanted:
            self._hooks.__exit__(None, None, None)
        self.hooked = wanted


def layers(network: nn.Module) -> tuple[Layer, ...]:
    """The layers with hooks, in the order of the modules: on the main path that of the forward pass."""
    return _layers(network)[1]


def _layers(network: nn.Module) -> tuple[tuple[nn.Module, ...], tuple[Layer, ...]]:
    off_path = {
        f"{name}.{inner}" if inner else name
        for name, module in network.named_modules()
        if isinstance(module, SqueezeExcite) or name.rpartition(".")[2] in _OFF_PATH
        for inner, _ in module.named_modules()
    }
    modules, records, depth = [], [], 0
    for name, module in network.named_modules():
        if _mixes_channels(module):
            # In the stages the main path is convolutional: a linear layer there is a router or a gate.
            on_path = name not in off_path and not (isinstance(module, nn.Linear) and name.startswith("stages."))
            depth += on_path
            modules.append(module)
            records.append(Layer(name, _about(module), depth, on_path))
    return tuple(modules), tuple(records)


def _mixes_channels(module: nn.Module) -> bool:
    """Whether it is a convolution or a linear layer of any kind; norms and scales have a vector of weights."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and (
        isinstance(module, (nn.Conv2d, nn.Linear)) or sum(size > 1 for size in weight.shape) >= 2
    )


def _weight(module: nn.Module) -> nn.Parameter:
    weight = module.weight
    assert isinstance(weight, nn.Parameter)  # `_mixes_channels` checked that
    return weight


def _about(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        groups = f", {module.groups} groups" if module.groups > 1 else ""
        height, width = module.kernel_size
        return f"convolution {height} × {width}, {module.in_channels} → {module.out_channels}{groups}"
    if isinstance(module, nn.Linear):
        return f"linear, {module.in_features} → {module.out_features}"
    return f"{type(module).__name__}, weights {' × '.join(map(str, _weight(module).shape))}"


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor.detach(), dtype=torch.float32)
    return norm


def _finite(norms: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(norm if math.isfinite(norm) else None for norm in norms)
