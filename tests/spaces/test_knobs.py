"""A line of a space's YAML as a finite domain: what each spelling means, and what anything else is told."""

from __future__ import annotations

import datetime
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.spaces.knobs import MAX_VALUES, Knob, parse
from nas.utils.yaml_text import parse_yaml

WHERE = "file.yaml: stage2.width"


def parsed(text: str) -> object:
    """What a line of YAML means."""
    return parse(parse_yaml(text, "file.yaml"), WHERE)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("basic", "basic"), ("-1", -1), ("'3'", "3"), ("3x3", "3x3"), ("0x10", 16)],
)
def test_a_scalar_is_fixed(text, value):
    found = parsed(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[basic, bottleneck]", ("basic", "bottleneck")),
        ("[7]", (7,)),
        ("[1, 2, 4]", (1, 2, 4)),
        ("[1, 2.5]", (1, 2.5)),
        ("{from: 1, to: 6}", (1, 2, 3, 4, 5, 6)),
        ("{from: 5, to: 5}", (5,)),
        ("{from: 32, to: 256, step: 32}", (32, 64, 96, 128, 160, 192, 224, 256)),
        ("{from: 1, to: 6, step: 2}", (1, 3, 5)),  # the end only where a step meets it
        ("{from: 1, to: 6, step: 9}", (1,)),
        ("{from: 16, to: 256, factor: 2}", (16, 32, 64, 128, 256)),
        ("{from: 3, to: 100, factor: 3}", (3, 9, 27, 81)),
        ("{values: [a, b]}", ("a", "b")),
    ],
)
def test_lists_and_ranges(text, values):
    assert parsed(text) == Knob(values)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("{values: [1, 2], when: {block: bottleneck}}", (("block", ("bottleneck",)),)),
        ("{values: [1, 2], when: {block: [basic, bottleneck]}}", (("block", ("basic", "bottleneck")),)),
        ("{from: 1, to: 2, when: {block: bottleneck, depth: [1, 2]}}", (("block", ("bottleneck",)), ("depth", (1, 2)))),
        ("{from: 1, to: 2, factor: 2, when: {width: 8}}", (("width", (8,)),)),
        ("{values: [1, 2], when: null}", ()),
    ],
)
def test_conditions(text, when):
    assert parsed(text) == Knob((1, 2), when)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("true", "True is neither"),
        ("null", "None is neither"),
        (".nan", "not a finite number"),
        (".inf", "not a finite number"),
        ("2020-01-01", "a date can't be"),
        ("[]", "an empty list"),
        ("{values: []}", "an empty list"),
        ("[1, true]", "True is neither"),
        ("[1, null]", "None is neither"),
        ("[[1], [2]]", "[1] is neither"),
        ("[{a: 1}]", "{'a': 1} is neither"),
        ("[1, .inf]", "not a finite number"),
        ("[2020-01-01]", "is neither a number nor a word"),
        ("[1, two]", "numbers and words are mixed"),
        ("[1, '1']", "numbers and words are mixed"),
        ("[a, b, a]", "names a value twice"),
        ("[1, 1.0]", "names a value twice"),
        ("[2, 1]", "don't rise"),
        ("{}", "needs from and to"),
        ("{from: 1}", "needs from and to"),
        ("{to: 1}", "needs from and to"),
        ("{when: {block: basic}}", "needs from and to"),
        ("{from: 1, to: 8, step: 1, factor: 2}", "at most one of step and factor"),
        ("{from: 6, to: 1}", "from 6 to 1 is empty"),
        ("{from: 0, to: 6}", "from must be a whole number of at least 1, not 0"),
        ("{from: -4, to: 6}", "from must be a whole number of at least 1, not -4"),
        ("{from: 1.0, to: 6}", "from must be a whole number of at least 1, not 1.0"),
        ("{from: true, to: 6}", "from must be a whole number of at least 1, not True"),
        ("{from: 1, to: 2e6}", "to must be a whole number of at least 1, not 2000000.0"),
        ("{from: 1, to: 6, step: 0}", "step must be a whole number of at least 1, not 0"),
        ("{from: 1, to: 6, step: null}", "step must be a whole number of at least 1, not None"),
        ("{from: 1, to: 6, factor: 1}", "factor must be at least 2"),
        ("{from: 1, to: 6, factor: 1.5}", "factor must be a whole number"),
        ("{values: [1], from: 1, to: 2}", "either values"),
        ("{values: [1], step: 1}", "either values"),
        ("{values: basic}", "either values"),
        ("{values: 3}", "either values"),
        ("{values: {from: 1, to: 2}}", "either values"),
        ("{values: null}", "either values"),
        ("{value: [1]}", "unknown key 'value'"),
        ("{1: 2}", "unknown key 1"),
        ("{min: 1, max: 2}", "unknown key 'min'"),
        ("{values: [1], when: {}}", "when must say"),
        ("{values: [1], when: bottleneck}", "when must say"),
        ("{values: [1], when: [block]}", "when must say"),
        ("{values: [1], when: {block: []}}", "is not a condition"),
        ("{values: [1], when: {1: basic}}", "is not a condition"),
        ("{values: [1], when: {block: true}}", "True is neither"),
        ("{values: [1], when: {block: {a: b}}}", "is neither a number nor a word"),
        ("{values: [1], when: {block: [null]}}", "None is neither"),
    ],
)
def test_everything_else_is_refused_at_its_place(text, says):
    with pytest.raises(UsageError) as error:
        parsed(text)
    message = str(error.value)
    assert message.startswith(WHERE) and says in message
    assert "\n" not in message


@pytest.mark.parametrize("spec", [{1, 2}, datetime.date(2020, 1, 1), object, range])
def test_objects_that_yaml_does_not_make_are_refused(spec):
    with pytest.raises(UsageError, match=r"can't be|neither"):
        parse(spec, WHERE)


def test_a_domain_has_a_largest_size():
    assert len(parsed(f"{{from: 1, to: {MAX_VALUES}}}")) == MAX_VALUES
    for text in (
        f"{{from: 1, to: {MAX_VALUES + 1}}}",
        "{from: 1, to: 99999999999999999999}",
        str(list(range(MAX_VALUES + 1))),
    ):
        with pytest.raises(UsageError, match=r"10,000"):
            parsed(text)


@pytest.mark.parametrize("text", ["when: {'a\nb': []}", "'val\nues': 1"])
def test_a_line_break_in_a_name_stays_out_of_the_message(text):
    with pytest.raises(UsageError) as error:
        parse(parse_yaml("values: [1]\n" + text.replace("\n", "\\n").replace("'", '"'), "file.yaml"), WHERE)
    assert "\n" not in str(error.value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["values", "from", "to", "step", "factor", "when", "block"]) | st.integers() | st.none(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(plain)
def test_any_data_is_a_domain_or_a_usage_error(spec):
    try:
        found = parse(spec, WHERE)
    except UsageError as error:
        assert str(error).startswith(WHERE) and "\n" not in str(error)
        return
    if not isinstance(found, Knob):
        assert found == spec
        return
    assert 1 <= len(found) == len(found.values) == len(set(found.values)) <= MAX_VALUES
    if found.ordinal:
        assert all(a < b for a, b in pairwise(found.values))
    else:
        assert all(isinstance(value, str) for value in found.values)


@pytest.mark.parametrize(
    ("values", "ordinal", "step"),
    [
        ((1, 2, 3), True, 1),
        ((8, 16, 24), True, 8),
        ((3, 9), True, 6),
        ((1, 2, 4), True, None),
        ((5,), True, None),
        ((0.5, 1.0), True, None),
        ((1, 2.0), True, None),
        (("a", "b"), False, None),
    ],
)
def test_order_and_step(values, ordinal, step):
    knob = Knob(values)
    assert (knob.ordinal, knob.step) == (ordinal, step)


def test_samples_are_uniform_and_repeatable():
    knob = Knob((1, 2, 4, 8))
    draws = [knob.sample(random.Random(seed)) for seed in range(4000)]
    assert draws == [knob.sample(random.Random(seed)) for seed in range(4000)]
    for value in knob.values:
        assert abs(draws.count(value) - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5
