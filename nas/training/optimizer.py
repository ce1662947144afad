"""SGD over a network's parameters, in groups with a learning rate and a weight decay of their own; averaged weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.training.recipe import Recipe

# (piece: stem, stage1, ..., head; epoch from 0) -> factor of the learning rate. 0 freezes the piece for that epoch: its
# weights get no gradient, and its norms keep their statistics.
Rates = Callable[[str, int], float]


def pieces(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """stem, stage1, stage2, ..., head with their modules; another network than `nas.build`'s is one piece, "network"."""
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
    """SGD with momentum by `recipe`: weight decay where the recipe has it, each piece at its own rate if `rates` is given."""

    def __init__(self, network: nn.Module, recipe: Recipe, rates: Rates | None = None) -> None:
        self._network, self._recipe, self._rates = network, recipe, rates
        self._sgd = torch.optim.SGD(
            list(_groups(network, recipe, by_piece=rates is not None)),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=False,
            fused=_fusable(network),  # one pass over the weights instead of three
        )
        self._factors: dict[str, float] = {}

    @property
    def frozen(self) -> tuple[str, ...]:
        """The pieces that the current epoch leaves as they are."""
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
        """One step at this learning rate, times the pieces' factors; gradients are dropped behind it.

        A rate that is a tensor, of one float32 on the weights' device, is read there when the step is taken.
        """
        self.at(rate)
        self._sgd.step()
        self._sgd.zero_grad(set_to_none=True)

    def at(self, rate: float | Tensor) -> None:
        """Set the learning rate; what `state_dict` holds of it is that of the last step."""
        for group in self._sgd.param_groups:
            group["lr"] = rate * self._factors[group["piece"]] if self._factors else rate

    def drop_gradients(self) -> None:
        self._sgd.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return self._sgd.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sgd.load_state_dict(state)


def _groups(network: nn.Module, recipe: Recipe, by_piece: bool) -> Iterator[dict[str, Any]]:
    """Parameter groups: one, or one a piece; each in two where norms and biases have no weight decay."""
    for piece, module in pieces(network) if by_piece else [("", network)]:
        parameters = list(module.parameters())
        if recipe.decay == "all":
            split = [(parameters, recipe.weight_decay)]
        else:
            split = [
                ([p for p in parameters if p.ndim > 1], recipe.weight_decay),
                ([p for p in parameters if p.ndim <= 1], 0.0),
            ]
        yield from ({"params": own, "weight_decay": decay, "piece": piece} for own, decay in split if own)


def _fusable(network: nn.Module) -> bool:
    """Whether PyTorch has a fused SGD for all the parameters."""
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in network.parameters())


class Average(AveragedModel):
    """Exponential moving average a <- d a + (1 - d) w of weights and buffers by each `update_parameters`; the first sets a = w.

    warmup: d is min(decay, (1 + t) / (10 + t)) at update t, counted from 0 over the whole training, so that the average spans
    at most about a ninth of the steps so far: a decay of 0.999 alone would keep a share of exp(-n / 1000) of the first weights
    after n steps (the rule of TensorFlow's ExponentialMovingAverage). t is part of the state.

    Without it, the numbers and the state of PyTorch's `AveragedModel` with `get_ema_multi_avg_fn(d)`; either way without its copy
    to a GPU in each step, for which the host would wait.
    """

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = True) -> None:
        super().__init__(network, use_buffers=True)
        self._decay, self._warmup = decay, warmup

    def decay_at(self, update: int) -> float:
        """The decay of an update, counted from 0."""
        return min(self._decay, (1 + update) / (10 + update)) if self._warmup else self._decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        own, new = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        update = int(self.n_averaged)  # in the host's memory
        if update == 0:
            torch._foreach_copy_(own, new)
        else:
            decay = self.decay_at(update)
            smooth = [average.is_floating_point() for average in own]
            torch._foreach_lerp_(
                list(itertools.compress(own, smooth)), list(itertools.compress(new, smooth)), 1 - decay
            )
            for average, value, floating in zip(own, new, smooth, strict=True):
                if not floating:
                    average.copy_(average * decay + value * (1 - decay))
        self.n_averaged += 1
