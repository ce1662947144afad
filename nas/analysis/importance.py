"""What each knob matters for an objective, and for the distance to the front: fANOVA and PED-ANOVA of Optuna.

fANOVA: the share of a random forest's variance that a knob's main effect has (Hutter, Hoos and Leyton-Brown, 2014).
PED-ANOVA: the Pearson divergence between a knob's values in the best quarter of the trials and in all of them (Watanabe,
Bansal and Hutter, 2023), by regimes where a knob exists only for some choices. The distance to the front is `Sample.gap`: it
asks what makes a network good for its cost, where accuracy alone asks what makes it large.

Noise: the same of shuffled targets. The floor is the largest importance that any knob has in 19 shuffles: pure noise
exceeds it somewhere once in 20 times.
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

LEAST = 40  # trials: 10 in the best quarter; below, nothing is computed
SOUND = 100  # trials from which on ranks of the knobs settle
MAX_TRIALS = 500  # that are looked at, evenly spread, so that a run of 10,000 is answered in seconds
BEST = 0.25
SHUFFLES = 19
TREES = 32
TREES_OF_NOISE = 8


@dataclass(frozen=True, slots=True)
class Importance:
    """The importances of the knobs for one target, largest first.

    floor: what noise reaches, None if it was not asked for. Costs have one too: they are exact, but the trials are a sample, in which
    a knob that costs nothing goes with them by chance. trials: those looked at, of `of`.
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
    """What importance can be asked for, each (n,) and the lower the better: accuracy, each cost by log10, the gap."""
    costs = {name: np.log10(cost) for name, cost in sample.costs.items()}
    return {"accuracy": -sample.accuracy, GAP: sample.gap, **costs}


def importance(sample: Sample, target: str, method: Method = "ped-anova", *, noise: bool = True) -> Importance | None:
    """The knobs' importance for `target` ("accuracy", a cost of the run, or `GAP`); None below `LEAST` trials.

    noise: whether the floor is computed, which takes 19 times as long. UsageError for an unknown target or method.
    """
    found = importances(sample, [target], method, noise=noise)
    return found[0] if found else None


def importances(
    sample: Sample, wanted: Sequence[str], method: Method = "ped-anova", *, noise: bool = True
) -> list[Importance]:
    """The same for several targets at once, which is quicker; none below `LEAST` trials."""
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
            # PED-ANOVA sees of a target which trials are its best quarter: of as many, one target's shuffles are another's.
            alike = target if method == "fanova" else _best(losses)
            floor = floors[alike] = floors.get(alike) or _floor(study, losses, method)
        made.append(Importance(target, method, ranked, floor, len(chosen), len(sample)))
    return made


def _best(losses: Floats) -> int:
    """How many trials PED-ANOVA takes for the best quarter; ties at its edge are all in it."""
    edge = math.ceil(BEST * len(losses)) - 1
    return int(np.sum(losses <= np.partition(losses, edge)[edge]))


def _floor(study: optuna.Study, losses: Floats, method: Method) -> float:
    rng = np.random.default_rng(0)
    shuffled = (_evaluate(study, rng.permutation(losses), method, TREES_OF_NOISE) for _ in range(SHUFFLES))
    return max(max(found.values()) for found in shuffled)


def _study(sample: Sample, chosen: np.ndarray, *, complete: bool) -> optuna.Study:
    """The trials with each knob's values numbered from 0.

    complete: where a knob does not exist, which fANOVA can't be told, it is drawn from the trials in which it does. Then its
    absence tells nothing, and what comes of it counts for the knob that decides it.
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
        warnings.simplefilter("ignore")  # it says each time that it takes lower targets for better ones, as they are
        if method == "fanova":
            if np.ptp(losses) == 0:
                return dict.fromkeys(_names(study), 0.0)
            evaluator: BaseImportanceEvaluator = FanovaImportanceEvaluator(n_trees=trees, seed=0)
        else:
            evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
        found = evaluator.evaluate(study, target=lambda trial: float(losses[trial.number]))
    return {key: float(value) for key, value in found.items()}


def _names(study: optuna.Study) -> Iterable[str]:
    return study.get_trials(deepcopy=False)[0].params
