"""Trained weights from files and from torchvision, renamed to fit the networks of this package."""

from __future__ import annotations

from nas.networks.weights.fitting import Fitted, fit, load_weights
from nas.networks.weights.sources import Weights, read

__all__ = ["Fitted", "Weights", "fit", "load_weights", "read"]
