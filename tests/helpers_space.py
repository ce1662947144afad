"""Small spaces as text, and how one is refused."""

from __future__ import annotations

import pytest
from helpers_search import space_of

from nas.errors import UsageError
from nas.spaces.space import SearchSpace


def text_of(*lines: str, stages: int = 2, values: dict[str, str] | None = None) -> str:
    """A small space with some lines of `values` replaced or added, and other lines at the end."""
    found = {"block": "basic", "depth": "1", "width": "8", **(values or {})}
    body = "".join(f"  {key}: {value}\n" for key, value in found.items() if value)
    return f"space: test\nstages: {stages}\nvalues:\n{body}" + "".join(f"{line}\n" for line in lines)


def refusal(text: str, **options) -> str:
    with pytest.raises(UsageError) as error:
        space_of(text, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def first_choices(space: SearchSpace) -> dict:
    return space.suggest(lambda key, knob: knob.values[0])
