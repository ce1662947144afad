"""Importance of each knob for an objective and for the distance to the front, by Optuna's fANOVA or PED-ANOVA.

fANOVA: the share of a random forest's variance that is due to a knob's main effect (Hutter, Hoos and Leyton-Brown, 2014).
PED-ANOVA: the Pearson divergence between the distributions of a knob's values in the best quarter of the trials and in all trials
(Watanabe, Bansal and Hutter, 2023), computed by regimes if a knob exists only for some choices. The distance to the front is
`Sample.gap`. Importance for it shows which knobs make a network good for its cost; importance for accuracy mostly shows which
knobs make it large.

Noise floor: the largest importance of any knob over 19 shuffles of the target. Pure noise exceeds it with probability 1/20.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from nas.analysis.sample import ABSENT, Floats, Sample
from nas.errors import UsageError

if TYPE_CHECKING:
    import optuna

Method: TypeAlias = Literal["ped-anova", "fanova"]
METHODS: tuple[Method, ...] = get_args(Method)
GAP = "distance to the front"

LEAST = 40  # trials, 10 of them in the best quarter; with fewer, nothing is computed
SOUND = 100  # trials; with fewer, the ranks of the knobs are unstable
MAX_TRIALS = 500  # evenly spaced in the run, so that 10,000 trials take seconds
BEST = 0.25
SHUFFLES = 19
TREES = 32
TREES_OF_NOISE = 8


@dataclass(frozen=True, slots=True)
class Importance:
    """The importances of the knobs for one target, largest first.

    floor: the noise floor; None if it was not requested. Costs have one too: they are exact, but in a finite sample a knob
    without any cost correlates with them by chance. trials: how many of `of` trials were evaluated.
    """

    target: str
    method: Method
    values: Mapping[str, float]
    floor: float | None
    trials: int
    of: int

    @property
    def telling(self) -> list[str]:
        """The knobs above the floor."""
        return [key for key, value in self.values.items() if self.floor is None or value > self.floor]


def targets(sample: Sample) -> dict[str, Floats]:
    """The targets of importance, each (n,), lower is better: negative accuracy, the distance to the front, log10 of each cost."""
    costs = {name: np.log10(cost) for name, cost in sample.costs.items()}
    return {"accuracy": -sample.accuracy, GAP: sample.gap, **costs}


def importance(sample: Sample, target: str, method: Method = "ped-anova", *, noise: bool = True) -> Importance | None:
    """The knobs' importance for `target` ("accuracy", a cost of the run, or `GAP`); None for fewer than `LEAST` trials.

    noise: whether to compute the noise floor, which takes 19 times as long. UsageError for an unknown target or method.
    """
    results = importances(sample, [target], method, noise=noise)
    return results[0] if results else None


def importances(
    sample: Sample, wanted: Sequence[str], method: Method = "ped-anova", *, noise: bool = True
) -> list[Importance]:
    """Importance for several targets, faster than one call for each; empty for fewer than `LEAST` trials."""
    known = targets(sample) if len(sample) else {"accuracy": np.zeros(0), GAP: np.zeros(0), **sample.costs}
    for target in wanted:
        if target not in known:
            raise UsageError(f"importance: unknown target {target!r}; known: {', '.join(known)}")
    if method not in METHODS:
        raise UsageError(f"importance: unknown method {method!r}; known: {', '.join(METHODS)}")
    if len(sample) < LEAST or not sample.knobs:
        return []
    chosen = np.linspace(0, len(sample) - 1, min(len(sample), MAX_TRIALS)).astype(np.intp)
    study = _study(sample, chosen, complete=method == "fanova")
    made = []
    floors: dict[object, float] = {}
    for target in wanted:
        losses = known[target][chosen]
        values = _evaluate(study, losses, method, TREES)
        ranked = dict(sorted(values.items(), key=lambda item: -item[1]))
        floor = None
        if noise:
            # PED-ANOVA depends on a target only through its best quarter, so that targets with best quarters of one size
            # have the same floor.
            alike = target if method == "fanova" else _best(losses)
            floor = floors[alike] = floors.get(alike) or _floor(study, losses, method)
        made.append(Importance(target, method, ranked, floor, len(chosen), len(sample)))
    return made


def _best(losses: Floats) -> int:
    """Number of trials in PED-ANOVA's best quarter, including all ties at its edge."""
    edge = math.ceil(BEST * len(losses)) - 1
    return int(np.sum(losses <= np.partition(losses, edge)[edge]))


def _floor(study: optuna.Study, losses: Floats, method: Method) -> float:
    rng = np.random.default_rng(0)
    shuffled = (_evaluate(study, rng.permutation(losses), method, TREES_OF_NOISE) for _ in range(SHUFFLES))
    return max(max(values.values()) for values in shuffled)


def _study(sample: Sample, chosen: np.ndarray, *, complete: bool) -> optuna.Study:
    """The trials as an Optuna study, with each knob's values numbered from 0.

    complete: fANOVA does not support knobs that exist in some trials only. A missing value is drawn from the trials that have
    the knob, so that its absence carries no information and the effect counts for the knob that decides the absence.
    """
    import optuna

    rng = np.random.default_rng(0)
    columns, kinds = {}, {}
    for key, factor in sample.knobs.items():
        codes = factor.codes[chosen].copy()
        present = codes[codes != ABSENT]
        if complete and len(present):
            missing = codes == ABSENT
            codes[missing] = rng.choice(present, int(missing.sum()))
        count = len(factor.values)
        columns[key] = codes
        kinds[key] = (
            optuna.distributions.IntDistribution(0, count - 1)
            if factor.ordinal
            else optuna.distributions.CategoricalDistribution(tuple(range(count)))
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    made = []
    for k in range(len(chosen)):
        params = {key: int(codes[k]) for key, codes in columns.items() if codes[k] != ABSENT}
        made.append(
            optuna.trial.create_trial(params=params, distributions={key: kinds[key] for key in params}, value=0.0)
        )
    study.add_trials(made)
    return study


def _evaluate(study: optuna.Study, losses: Floats, method: Method, trees: int) -> dict[str, float]:
    from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a reminder that lower targets are better, which holds here
        if method == "fanova":
            if np.ptp(losses) == 0:
                return dict.fromkeys(_names(study), 0.0)
            evaluator: BaseImportanceEvaluator = FanovaImportanceEvaluator(n_trees=trees, seed=0)
        else:
            evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
        importances = evaluator.evaluate(study, target=lambda trial: float(losses[trial.number]))
    return {key: float(value) for key, value in importances.items()}


def _names(study: optuna.Study) -> Iterable[str]:
    return study.get_trials(deepcopy=False)[0].params
