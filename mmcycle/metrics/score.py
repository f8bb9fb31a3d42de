"""A number that is never alone: its interval where there is one, and what the same measure says of known cases."""
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """One measure of a translation.

    low, high   95 % bootstrap interval over samples
    beside      the same measure of known cases: "floor" (two sets of real recordings), "untranslated" (the source as
                it is), "shuffled" (each translation against another one's source or partner), "chance", "real"
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    beside: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite are left out."""
        named = {"value": self.value, "low": self.low, "high": self.high, **self.beside}
        return {name: float(f"{value:.6g}") for name, value in named.items() if math.isfinite(value)}
