"""Samplers by name (`SAMPLERS`): what proposes the next candidate."""

from nas.samplers import stock
from nas.samplers._base import SAMPLERS, Factory, suggest

__all__ = ["SAMPLERS", "Factory", "stock", "suggest"]
