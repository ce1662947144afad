"""Numbers and networks in words."""

from __future__ import annotations

import dataclasses

import pytest
from helpers_report import RESNET50
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures

from nas.networks import zoo
from nas.networks.describe import describe
from nas.utils.text import format_count, format_percent, format_seconds, points


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.000 k"), (9_999, "9.999 k"), (272_474, "272.5 k"), (999_949, "999.9 k"), (999_960, "1.000 M"),
     (25_557_032, "25.56 M"), (4_089_184_256, "4.089 G"), (3 * 10**15, "3000 T")],
)  # fmt: skip
def test_counts(number, text):
    assert format_count(number) == text


@given(st.integers(0, 10**14))
def test_counts_are_right_to_four_digits(number):
    figure, _, prefix = format_count(number).partition(" ")
    scale = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[prefix]
    assert float(figure) * scale == pytest.approx(number, rel=0.00051)
    assert float(figure) < 1000


def test_percent_and_points():
    assert [format_percent(share) for share in (0, 0.9312, 0.93125, 1)] == ["0.00", "93.12", "93.12", "100.00"]
    assert points(0.9312, 0.9172) == 1.4
    assert points(0.931249, 0.931151) == 0.0  # both are written 93.12


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (12, "12 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (97_200, "1 d 3 h"),
    ],
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet20", "3×16, 3×32, 3×64; basic, zero-pad shortcut; cifar stem 16"),
        ("plain20", "3×16, 3×32, 3×64; basic, no shortcut; cifar stem 16"),
        ("resnet50_v1", RESNET50.replace("bottleneck", "bottleneck").replace("shortcut;", "shortcut, stride on 1x1;")),
        ("resnet50", RESNET50),
        ("resnext29_8x64d", "3×256 (8×64d), 3×512 (8×128d), 3×1024 (8×256d); bottleneck, projection shortcut; cifar stem 64"),
        ("wrn_16_8", "2×128, 2×256, 2×512; basic, pre-activated, projection shortcut; cifar stem 16"),
    ],
)  # fmt: skip
def test_descriptions(name, text):
    assert describe(zoo.get(name)) == text


@settings(max_examples=60)
@given(st.lists(architectures(most_stages=2, most_depth=2, most_width=2), min_size=2, max_size=20))
def test_networks_are_described_alike_exactly_if_they_are_alike(networks):
    described: dict[str, str] = {}
    for drawn in networks:
        network = dataclasses.replace(drawn, resolution=8, channels=3, head=dataclasses.replace(drawn.head, classes=2))
        text = describe(network)
        assert described.setdefault(text, network.digest) == network.digest
        assert describe(network.canonical()) == text
