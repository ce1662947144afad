"""Scaling a network's depth, width and resolution together.

Compound scaling: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", Tan & Le, ICML 2019. Uniform
and fast scaling: "Fast and Accurate Model Scaling", Dollár, Singh & Girshick, CVPR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from nas.errors import UsageError
from nas.networks.architecture import MAX_NAME, Architecture, Stage
from nas.networks.build import cost_of
from nas.networks.cost import Cost

DIVISOR = 8
LEAST, MOST = 1 / 64, 64.0  # of each factor
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # EfficientNet's, for phi = 1: depth, width, resolution
CLOSE = 0.99  # networks above this share of a target are ranked by how near they are to the method's ratios
LEEWAYS = (1.15, 1.5)  # how far a factor may differ from the method's to meet a target; the second only if needed
_ROUNDING = 1e-9  # relative; 1.1 x 10 is 11.000000000000002, which must not become 12 blocks


@dataclass(frozen=True, slots=True)
class Scaling:
    """Factors of depth, width and resolution, each from 1/64 to 64; `divisor` as in `scaled_width`."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0
    divisor: int = DIVISOR

    def __post_init__(self) -> None:
        for name in ("depth", "width", "resolution"):
            if not LEAST <= getattr(self, name) <= MOST:  # nor is NaN
                raise UsageError(f"{name}: a factor is from 1/64 to 64, not {getattr(self, name):g}")
        if self.divisor < 1:
            raise UsageError(f"divisor must be at least 1, not {self.divisor}")


@dataclass(frozen=True, slots=True)
class Method:
    """d = s^depth, w = s^width, r = s^resolution for s times the multiply-adds; depth + 2 width + 2 resolution = 1.

    In a network of large convolutions the multiply-adds are proportional to d w^2 r^2.
    """

    depth: float
    width: float
    resolution: float

    def scaling(self, times: float, divisor: int = DIVISOR) -> Scaling:
        """The scaling for about `times` the multiply-adds; UsageError if a factor is out of its limits."""
        if not 0 < times < math.inf:
            raise UsageError(f"a factor of multiply-adds is a finite number above 0, not {times:g}")
        return Scaling(times**self.depth, times**self.width, times**self.resolution, divisor)


def compound(alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> Method:
    """EfficientNet's d = alpha^phi, w = beta^phi, r = gamma^phi: `times` is (alpha beta^2 gamma^2)^phi, see `growth`."""
    log_growth = math.log(growth(alpha, beta, gamma))
    return Method(*(math.log(base) / log_growth for base in (alpha, beta, gamma)))


def growth(alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> float:
    """alpha beta^2 gamma^2: the factor of the multiply-adds at phi = 1, about 2 in the paper."""
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not 1 <= value <= MOST:
            raise UsageError(f"{name} must be from 1 to 64, not {value:g}")
    product = alpha * beta**2 * gamma**2
    if product <= 1:
        raise UsageError("alpha, beta and gamma are all 1, which scales nothing")
    return product


def phi_scaling(
    phi: float, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA, divisor: int = DIVISOR
) -> Scaling:
    """EfficientNet's scaling for the compound coefficient phi, any real number within the limits of the factors."""
    product = growth(alpha, beta, gamma)
    most = math.log(MOST) / math.log(max(alpha, beta, gamma))
    if not abs(phi) <= most:
        raise UsageError(f"phi is from {-most:.4g} to {most:.4g} (factors from 1/64 to 64), not {phi:g}")
    return compound(alpha, beta, gamma).scaling(product**phi, divisor)


def towards_width(alpha: float) -> Method:
    """Dollár et al.'s d = s^((1 - alpha) / 2), w = s^(alpha / 2), r = s^((1 - alpha) / 4).

    `alpha` 1/3 scales all three alike (uniform), 0.8 mostly the width (fast): with the width, activations, and so the time
    on an accelerator, grow least.
    """
    return Method((1 - alpha) / 2, alpha / 2, (1 - alpha) / 4)


METHODS: Mapping[str, Method] = {
    "compound": compound(),
    "uniform": towards_width(1 / 3),
    "fast": towards_width(0.8),
    "width": Method(0.0, 0.5, 0.0),
    "depth": Method(1.0, 0.0, 0.0),
    "resolution": Method(0.0, 0.0, 0.5),
}

# Width factor, depth factor and resolution of the published EfficientNets, which aren't powers of the paper's coefficients.
EFFICIENTNETS: Mapping[str, tuple[float, float, int]] = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}


def published(name: str, divisor: int = DIVISOR) -> Scaling:
    """The scaling from EfficientNet-b0 to the published `name`, b0 to b7."""
    width, depth, pixels = EFFICIENTNETS[name]
    return Scaling(depth, width, pixels / EFFICIENTNETS["b0"][2], divisor)


def scaled_width(width: int, factor: float, divisor: int = DIVISOR) -> int:
    """factor x width, rounded to a multiple of gcd(width, divisor): the nearest, or the next if that is below 0.9 factor x width.

    A width that is a multiple of the divisor scales as in EfficientNet and MobileNet; others keep their common divisor.
    The factor 1 changes no width, equal widths stay equal, and a larger factor never gives a narrower one.
    """
    unit, exact = math.gcd(width, divisor), width * factor
    nearest = max(unit, int(exact + unit / 2) // unit * unit)
    return nearest + unit if nearest < 0.9 * exact else nearest


def scaled_depth(depth: int, factor: float) -> int:
    """ceil(factor x depth)."""
    return math.ceil(depth * factor * (1 - _ROUNDING))


def scaled_resolution(pixels: int, factor: float) -> int:
    """factor x pixels, rounded, at least 1."""
    return max(1, math.floor(pixels * factor + 0.5))


def scaled(architecture: Architecture, scaling: Scaling) -> Architecture:
    """The network with depth, width and resolution scaled; the same object if that changes nothing.

    Stages get ceil(d x depth) blocks. Widths of stem, stages and an expanded head follow `scaled_width`. So do the inner
    widths of grouped branches, at the same cardinality: the group width scales with the width, as in Dollár et al. Ratios
    (expansion, squeeze-excitation) stay. UsageError beyond the limits of a network.
    """

    def scale(width: int) -> int:
        return scaled_width(width, scaling.width, scaling.divisor)

    stages = []
    for number, stage in enumerate(architecture.stages):
        depth = scaled_depth(stage.depth, scaling.depth)
        if stage.depth == 1 and depth > 1:
            stage = _with_path(architecture, number)
        stages.append(replace(stage, branch=stage.branch.scaled(scale), depth=depth, width=scale(stage.width)))
    result = replace(
        architecture,
        stem=replace(architecture.stem, width=scale(architecture.stem.width)),
        stages=tuple(stages),
        head=architecture.head.scaled(scale),
        resolution=scaled_resolution(architecture.resolution, scaling.resolution),
    )
    if result.canonical() == architecture.canonical():
        return architecture
    return replace(result, name=_name(architecture.name, scaling, result.resolution))


def _with_path(architecture: Architecture, number: int) -> Stage:
    """A stage of one block, with the shortcut and merge that further blocks of it need.

    With a `matching` shortcut, a single block that changes the shape has no path around its branch, and its canonical form
    drops shortcut and merge. They are taken from the nearest stage with a `matching` shortcut, the earlier of two.
    """
    stage = architecture.stages[number]
    if stage.merge.uses_shortcut:
        return stage
    others = [
        (abs(place - number), place, other)
        for place, other in enumerate(architecture.stages)
        if other.merge.uses_shortcut and other.shortcut.kind == "matching"
    ]
    if not others:
        return stage
    *_, other = min(others, key=lambda item: item[:2])
    return replace(stage, shortcut=other.shortcut, merge=other.merge)


def _name(name: str, scaling: Scaling, pixels: int) -> str:
    """`efficientnet_b0-d1.4-w1.2-300px`; an empty name stays empty."""
    parts = [
        *([f"d{scaling.depth:.4g}"] if scaling.depth != 1 else []),
        *([f"w{scaling.width:.4g}"] if scaling.width != 1 else []),
        *([f"{pixels}px"] if scaling.resolution != 1 else []),
    ]
    tail = "".join(f"-{part}" for part in parts)
    return name[: MAX_NAME - len(tail)] + tail if name else ""


def fitted(
    architecture: Architecture, method: Method, targets: Mapping[str, int], divisor: int = DIVISOR
) -> tuple[Scaling, Architecture]:
    """The scaling whose costs come nearest to `targets` (params, macs) and exceed none of them, and the scaled network.

    Bisection gives the s at which the method's network just meets the targets. Because blocks and channels are whole
    numbers, that network may fall short of them; so each factor that the method changes may differ by up to 15 % from its
    value at s. Of the networks that reach 99 % of a target, the one with the factors nearest to the method's is taken. If
    none does, factors may differ by up to 50 %; if still none does, the network nearest to a target is taken.

    UsageError, with what can be reached, if every scaling exceeds the targets or the largest falls short of them.
    """
    for metric, target in targets.items():
        if target < 1:
            raise UsageError(f"a target of {metric} is at least 1, not {target}")
    if set(targets) == {"params"} and not (method.depth or method.width):
        raise UsageError("the resolution does not change params; a target for them takes another method")
    cost_of(architecture)  # an invalid network fails here, and not as one that no scaling fits
    return _Search(architecture, method, targets, divisor).best()


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for scalings on a method's curve and near it."""

    architecture: Architecture
    method: Method
    targets: Mapping[str, int]
    divisor: int

    def best(self) -> tuple[Scaling, Architecture]:
        center = self.largest()
        candidates = [(self.share(center), 0.0, center)]
        for leeway in LEEWAYS:
            for scaling, deviation in self.near(center, math.log(leeway)):
                share = self.share(scaling)
                if share <= 1:
                    candidates.append((share, -deviation, scaling))
            if close := [(nearness, share, scaling) for share, nearness, scaling in candidates if share >= CLOSE]:
                scaling = max(close, key=lambda item: item[:2])[2]
                break
        else:
            scaling = max(candidates, key=lambda item: item[:2])[2]
        return scaling, scaled(self.architecture, scaling)

    def cost(self, scaling: Scaling) -> Cost:
        return cost_of(scaled(self.architecture, scaling))

    def share(self, scaling: Scaling) -> float:
        """max over the targets of cost / target; infinite beyond the limits of a network."""
        try:
            cost = self.cost(scaling)
        except UsageError:
            return math.inf
        return max(float(getattr(cost, metric)) / target for metric, target in self.targets.items())

    def on_curve(self, x: float) -> Scaling:
        return self.method.scaling(math.exp(x), self.divisor)

    def largest(self) -> Scaling:
        """The largest scaling of the method whose network meets the targets."""
        end = math.log(MOST) / max(self.method.depth, self.method.width, self.method.resolution) * (1 - _ROUNDING)
        if self.share(self.on_curve(-end)) > 1:
            raise UsageError(f"no scaling meets {self._wanted()}: the smallest has {self._reached(-end)}")
        if self.share(self.on_curve(end)) <= 1:
            raise UsageError(f"{self._wanted()} is out of reach: the largest scaling has {self._reached(end)}")
        low, high = _bisect(lambda x: self.share(self.on_curve(x)) <= 1, -end, end)
        if math.isinf(self.share(self.on_curve(high))):
            raise UsageError(f"{self._wanted()} is out of reach: the largest network has {self._reached(low)}")
        return self.on_curve(low)

    def _wanted(self) -> str:
        return " and ".join(f"{target:,} {metric}" for metric, target in self.targets.items())

    def _reached(self, x: float) -> str:
        cost = self.cost(self.on_curve(x))
        return " and ".join(f"{getattr(cost, metric):,} {metric}" for metric in self.targets)

    def near(self, center: Scaling, leeway: float) -> Iterator[tuple[Scaling, float]]:
        """Scalings whose factors are within `leeway` of `center`'s, each with its largest deviation; both are logarithms."""
        if not (self.method.width or self.method.resolution):
            return
        for depth, distance in self.depths(center.depth, leeway):
            if (base := self.levelled(replace(center, depth=depth), leeway)) is None:
                continue
            yield base, max(distance, _deviation(base, center))
            if self.method.resolution and "macs" in self.targets:
                for scaling in self.refined(base, center, leeway):
                    yield scaling, max(distance, _deviation(scaling, center))

    def levelled(self, start: Scaling, leeway: float) -> Scaling | None:
        """`start` with width and resolution changed in the method's ratio until the targets are just met; None if beyond `leeway`."""
        width, resolution = self.method.width, self.method.resolution
        fastest = max(width, resolution)

        def moved(x: float) -> Scaling:
            return replace(
                start,
                width=_within(start.width * math.exp(x * width / fastest)),
                resolution=_within(start.resolution * math.exp(x * resolution / fastest)),
            )

        if self.share(moved(-leeway)) > 1:
            return None
        return moved(_bisect(lambda x: self.share(moved(x)) <= 1, -leeway, leeway)[0])

    def refined(self, base: Scaling, center: Scaling, leeway: float) -> Iterator[Scaling]:
        """Slightly narrower networks, each at the highest resolution that meets the targets: pixels are finer steps than channels."""
        pixels = self.architecture.resolution
        highest = scaled_resolution(pixels, _within(center.resolution * math.exp(leeway)))
        for step in range(12 if self.method.width else 1):
            narrow = replace(base, width=_within(base.width * (1 - 0.01 * step)))
            low, high = scaled_resolution(pixels, base.resolution), highest + 1
            if self.share(narrow) > 1:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                fits = self.share(replace(narrow, resolution=_within(middle / pixels))) <= 1
                low, high = (middle, high) if fits else (low, middle)
            yield replace(narrow, resolution=_within(low / pixels))

    def depths(self, center: float, leeway: float) -> Iterator[tuple[float, float]]:
        """Factors near `center` that give different depths, each with the logarithm of its ratio to `center`."""
        yield center, 0.0
        if not self.method.depth:
            return
        least, most = _within(center * math.exp(-leeway)), _within(center * math.exp(leeway))
        # The depth of a stage changes at the factors k / depth: it is k blocks up to there.
        steps = {
            count / stage.depth
            for stage in self.architecture.stages
            for count in range(math.ceil(least * stage.depth), math.ceil(most * stage.depth) + 1)
        }
        ordered = sorted(step for step in steps if LEAST <= step <= MOST)
        for lower, upper in zip([LEAST, *ordered], ordered, strict=False):
            if upper < center and upper >= least:
                yield upper, math.log(center / upper)
            elif center <= lower <= most:
                yield upper, math.log(lower / center)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """Two neighboring numbers, `holds` true of the lower and false of the higher; `high` twice if it is true there."""
    if holds(high):
        return high, high
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high


def _within(factor: float) -> float:
    return min(max(factor, LEAST), MOST)


def _deviation(scaling: Scaling, center: Scaling) -> float:
    pairs = ((scaling.width, center.width), (scaling.resolution, center.resolution))
    return max(abs(math.log(factor / other)) for factor, other in pairs)
