"""SGD with a learning rate and a weight decay for each group of parameters; exponential moving average of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.training.recipe import Recipe

# (piece: stem, stage1, ..., head; epoch from 0) -> factor of the learning rate. 0 freezes the piece in that epoch: its
# weights get no gradients, and its norms keep their statistics.
Rates = Callable[[str, int], float]


def pieces(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """stem, stage1, stage2, ..., head with their modules; a network not made by `nas.build` is one piece, "network"."""
    stages = getattr(network, "stages", None)
    if not isinstance(stages, nn.ModuleList):
        yield "network", network
        return
    for name, module in network.named_children():
        if module is stages:
            yield from ((f"stage{number}", stage) for number, stage in enumerate(stages, 1))
        else:
            yield name, module


class Optimiser:
    """SGD with momentum and the weight decay of `recipe`; each piece has its own learning rate if `rates` is given."""

    def __init__(self, network: nn.Module, recipe: Recipe, rates: Rates | None = None) -> None:
        self._network, self._recipe, self._rates = network, recipe, rates
        self._sgd = torch.optim.SGD(
            list(_groups(network, recipe, by_piece=rates is not None)),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=False,
            fused=_fusable(network),
        )
        self._factors: dict[str, float] = {}

    @property
    def frozen(self) -> tuple[str, ...]:
        """The pieces that are frozen in the current epoch."""
        return tuple(piece for piece, factor in self._factors.items() if factor == 0)

    def begin(self, epoch: int) -> None:
        """Put the network in training mode for an epoch, counted from 0; its frozen pieces stay in evaluation mode."""
        self._network.train()
        if self._rates is None:
            return
        for piece, module in pieces(self._network):
            factor = self._factors[piece] = self._rates(piece, epoch)
            module.requires_grad_(factor != 0)
            if factor == 0:
                module.eval()

    def step(self, rate: float | Tensor) -> None:
        """One step at this learning rate, times the pieces' factors; the gradients are dropped after it.

        rate: a number, or a float32 scalar tensor on the weights' device, which is read there when the step is taken.
        """
        self.at(rate)
        self._sgd.step()
        self._sgd.zero_grad(set_to_none=True)

    def at(self, rate: float | Tensor) -> None:
        """Set the learning rate, as `state_dict` will have it."""
        for group in self._sgd.param_groups:
            group["lr"] = rate * self._factors[group["piece"]] if self._factors else rate

    def drop_gradients(self) -> None:
        self._sgd.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, object]:
        return self._sgd.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sgd.load_state_dict(state)


def _groups(network: nn.Module, recipe: Recipe, by_piece: bool) -> Iterator[dict[str, object]]:
    """Parameter groups: one, or one per piece; each is split in two if norms and biases have no weight decay."""
    for piece, module in pieces(network) if by_piece else [("", network)]:
        parameters = list(module.parameters())
        if recipe.decay == "all":
            split = [(parameters, recipe.weight_decay)]
        else:
            split = [
                ([p for p in parameters if p.ndim > 1], recipe.weight_decay),
                ([p for p in parameters if p.ndim <= 1], 0.0),
            ]
        yield from ({"params": part, "weight_decay": decay, "piece": piece} for part, decay in split if part)


def _fusable(network: nn.Module) -> bool:
    """Whether PyTorch has a fused SGD for all the parameters."""
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in network.parameters())


class Average(AveragedModel):
    """Exponential moving average of weights and buffers: each `update_parameters` does a <- d a + (1 - d) w; the first sets a = w.

    warmup: d is min(decay, (1 + t) / (10 + t)) at update t, counted from 0 over the whole training (the rule of TensorFlow's
    ExponentialMovingAverage). So the average spans at most about a ninth of the steps so far; a decay of 0.999 alone would keep
    a share exp(-n / 1000) of the first weights after n steps. t is part of the state.

    Without warmup, numbers and state are those of PyTorch's `AveragedModel` with `get_ema_multi_avg_fn(d)`. Unlike PyTorch's, no
    update copies to the GPU, for which the host would wait.
    """

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = True) -> None:
        super().__init__(network, use_buffers=True)
        self._decay, self._warmup = decay, warmup

    def decay_at(self, update: int) -> float:
        """The decay of an update, counted from 0."""
        return min(self._decay, (1 + update) / (10 + update)) if self._warmup else self._decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        averages, values = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        update = int(self.n_averaged)  # in the host's memory
        if update == 0:
            torch._foreach_copy_(averages, values)
        else:
            decay = self.decay_at(update)
            smooth = [average.is_floating_point() for average in averages]
            torch._foreach_lerp_(
                list(itertools.compress(averages, smooth)), list(itertools.compress(values, smooth)), 1 - decay
            )
            for average, value, floating in zip(averages, values, smooth, strict=True):
                if not floating:
                    average.copy_(average * decay + value * (1 - decay))
        self.n_averaged += 1
