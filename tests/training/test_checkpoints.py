"""Checkpoints as training programs save them: the weights are found in them, and nothing else of them is loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers_weights import ARGUMENTS, OPTIMIZER, TINY, tiny
from helpers_weights import state as state  # a fixture

from nas.networks.weights import Weights, fit, read
from nas.networks.weights.checkpoints import Absent, load

pytestmark = pytest.mark.usefixtures("one_thread")


def under(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def averaged(tensors):
    """As torch.optim.swa_utils.AveragedModel names them."""
    return {"n_averaged": torch.tensor(3), **under("module.", tensors)}


def mixed_up(tensors):
    """Other numbers under the same names."""
    return {name: tensor + 1 for name, tensor in tensors.items()}


EMA = "the averaged (EMA) weights under"

# What a program saves, from the network's own state_dict, and what is said of it.
CHECKPOINTS = {
    "state_dict": (lambda s: s, ()),
    "DataParallel": (lambda s: under("module.", s), ()),
    "compiled": (lambda s: under("_orig_mod.", s), ()),
    "compiled, then parallel": (lambda s: under("module._orig_mod.", s), ()),
    "parallel, then compiled": (lambda s: under("_orig_mod.module.", s), ()),
    "blocks compiled": (lambda s: {name.replace("layer1.0.", "layer1.0._orig_mod."): t for name, t in s.items()}, ()),
    "FSDP": (lambda s: {name.replace("layer1.", "layer1._fsdp_wrapped_module."): t for name, t in s.items()}, ()),
    "torchvision": (
        lambda s: {"model": s, "optimizer": OPTIMIZER, "epoch": 3, "args": ARGUMENTS, "scaler": {"scale": 1.0}},
        (),
    ),
    "torchvision, EMA": (
        lambda s: {"model": mixed_up(s), "args": ARGUMENTS, "optimizer": OPTIMIZER, "model_ema": averaged(s)},
        (f"{EMA} 'model_ema' are taken",),
    ),
    "torchvision, EMA of a compiled parallel network": (
        lambda s: {
            "model": under("module._orig_mod.", mixed_up(s)),
            "model_ema": averaged(under("module._orig_mod.", s)),
        },
        (f"{EMA} 'model_ema' are taken",),
    ),
    "timm": (
        lambda s: {
            "epoch": 3,
            "arch": "resnet18",
            "state_dict": s,
            "args": ARGUMENTS,
            "version": 2,
            "metric": np.float64(71.2),
        },
        (),
    ),
    "timm, EMA": (
        lambda s: {"arch": "resnet18", "state_dict": mixed_up(s), "state_dict_ema": s, "args": ARGUMENTS},
        (f"{EMA} 'state_dict_ema' are taken",),
    ),
    "timm, EMA compiled": (
        lambda s: {"state_dict": under("_orig_mod.", mixed_up(s)), "state_dict_ema": under("_orig_mod.", s)},
        (f"{EMA} 'state_dict_ema' are taken",),
    ),
    "EMA alone": (lambda s: {"ema": s, "updates": 30}, (f"{EMA} 'ema' are taken",)),
    "EMA of parameters alone": (
        lambda s: {"model": s, "ema": {"conv1.weight": s["conv1.weight"]}},
        ("'ema' lacks tensors of 'model', which is taken",),
    ),
    **{
        f"Lightning, {name}": (
            lambda s, name=name: {
                "state_dict": under(f"{name}.", s),
                "hyper_parameters": {"args": ARGUMENTS},
                "callbacks": {},
            },
            (),
        )
        for name in ("model", "net", "backbone")
    },
    "Lightning, compiled": (lambda s: {"state_dict": under("model._orig_mod.", s)}, ()),
    "Lightning with a loss": (
        lambda s: {"state_dict": {**under("model.", s), "criterion.weight": torch.ones(5)}},
        ("what lies outside of 'model.' is left out: criterion.weight",),
    ),
    "Lightning with an EMA network": (
        lambda s: {"state_dict": {**under("model.", mixed_up(s)), **under("ema.", averaged(s))}},
        (f"{EMA} 'ema.' are taken",),
    ),
    "net, acc, epoch": (lambda s: {"net": under("module.", s), "acc": np.float64(93.02), "epoch": 199}, ()),
    "NumPy arrays beside": (lambda s: {"model": s, "history": np.arange(3.0), "best": np.bool_(True)}, ()),
    "nested": (lambda s: {"checkpoint": {"state_dict": s, "epoch": 1}}, ()),
    "an entry of another name": (lambda s: {"student": s, "epoch": 1}, ("the weights are those under 'student'",)),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_every_kind_are_read(state, tmp_path, kind):
    saved, notes = CHECKPOINTS[kind]
    torch.save(saved(state), tmp_path / "w.ckpt")
    weights = read(str(tmp_path / "w.ckpt"))
    assert weights.fingerprint == Weights.of("", state).fingerprint
    assert tiny(weights.tensors).family == "torchvision's or timm's ResNet"
    assert (weights.notes, fit(weights, TINY).notes) == (notes, notes)


def test_the_pickles_of_before_2020_are_read(state, tmp_path):
    torch.save({"model": state, "args": ARGUMENTS}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read(str(tmp_path / "w.pth")).fingerprint == Weights.of("", state).fingerprint


def test_objects_of_a_file_are_not_made(tmp_path):
    """What stands in the place of the arguments holds nothing of them, so that no method of theirs can run."""
    torch.save({"a": torch.ones(1), "args": ARGUMENTS}, tmp_path / "w.pth")
    assert isinstance(load(tmp_path / "w.pth")["args"], Absent)
    assert not vars(load(tmp_path / "w.pth")["args"])
