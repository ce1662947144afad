"""Stratified splits of labels into images for training and held-out images, reproducible on every machine.

The order of a class's images is drawn from the raw 64-bit stream of PCG64, which NumPy promises never to change, so that a run
that is resumed after an upgrade gets the same split. (NEP 19 allows `Generator.permutation` to change between releases.)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError

Indices = NDArray[np.int64]


def split(labels: NDArray[np.integer], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """(train, validation): sorted indices, disjoint and complete, with `fraction` of each class in validation.

    labels: (n,) integers. fraction: in (0, 1). The validation set has round(fraction n) images, apportioned to the classes by
    largest remainders; each class has at least one image on both sides. The same arguments give the same split on every machine.

    Raises UsageError if a class has fewer than two images or the fraction is outside (0, 1).
    """
    if not 0.0 < fraction < 1.0:
        raise UsageError(f"the held-out fraction is {fraction!r}; it must lie between 0 and 1, both excluded")
    labels = _checked(labels)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        lonely = ", ".join(str(label) for label in classes[counts < 2][:5])
        raise UsageError(
            f"class {lonely} has a single image, and a stratified split needs two (one to train on, one to hold out): "
            "add images of it or drop the class"
        )
    held_out = round(fraction * len(labels))
    quotas = _apportion(counts, held_out, lower=np.ones_like(counts), upper=counts - 1)
    validation = _first_of_each_class(labels, classes, quotas, seed)
    return np.setdiff1d(np.arange(len(labels)), validation, assume_unique=True), validation


def subset(labels: NDArray[np.integer], size: int, seed: int) -> Indices:
    """Sorted indices of `size` images (all, if there are no more) at unchanged class shares, at least two of each class.

    labels: (n,) integers. Raises UsageError if `size` is too small for two images of each class.
    """
    labels = _checked(labels)
    if size >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    lower = np.minimum(counts, 2)
    if size < lower.sum():
        raise UsageError(
            f"{size} images are too few for {len(classes)} classes; take {lower.sum()} or more (two of each)"
        )
    return _first_of_each_class(labels, classes, _apportion(counts, size, lower, upper=counts), seed)


def _checked(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"labels must be a non-empty (n,) array of integers, not {labels.dtype} of shape {labels.shape}"
        )
    return labels


def _apportion(counts: Indices, total: int, lower: Indices, upper: Indices) -> Indices:
    """Integers in proportion to `counts` that add up to `total`, as closely as lower <= quota <= upper allows.

    Hamilton's method of largest remainders; ties go to the earlier class.
    """
    total = max(int(lower.sum()), min(total, int(upper.sum())))
    shares = counts * (total / counts.sum())
    quotas: Indices = np.clip(np.floor(shares).astype(np.int64), lower, upper)
    while (missing := total - int(quotas.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = quotas < upper if step > 0 else quotas > lower
        lack = np.where(movable, step * (shares - quotas), -math.inf)
        quotas[np.argmax(lack)] += step
    return quotas


def _first_of_each_class(
    labels: NDArray[np.integer], classes: NDArray[np.integer], quotas: Indices, seed: int
) -> Indices:
    """Sorted indices of the first quotas[k] images of each class k, in an order drawn from (seed, k)."""
    chosen = []
    for position, (label, quota) in enumerate(zip(classes, quotas, strict=True)):
        members = np.flatnonzero(labels == label)
        order = np.argsort(np.random.PCG64([seed, position]).random_raw(len(members)), kind="stable")
        chosen.append(members[order[:quota]])
    return np.sort(np.concatenate(chosen))
