"""Trained weights from files and from torchvision, fitted to networks of ours whatever their library calls the tensors."""

from __future__ import annotations

from nas.networks.weights.fitting import Fitted, fit, load_weights
from nas.networks.weights.sources import Weights, read

__all__ = ["Fitted", "Weights", "fit", "load_weights", "read"]
