"""Numbers as a person reads them: short, counted, timed, or large on a card."""
import math
from typing import NamedTuple

UNITS = {"db": "dB", "hz": "Hz", "khz": "kHz", "m": "m", "cm": "cm", "s": "s", "ms": "ms", "deg": "°", "percent": "%"}


class Card(NamedTuple):
    """One number in large type; `share` (0 to 1) draws a bar below it."""

    label: str
    value: str
    below: str = ""
    share: float | None = None
    alarm: bool = False


def short(value: float) -> str:
    """In a few letters: 12345 -> 12.3k, 0.0002 -> 2e-4, NaN -> a dash."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    if abs(value) < 1e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{value:.3g}"


def measured(name: str, value: float) -> str:
    """A number whose name ends in its unit, as it is said: snr_db, 7.5 -> snr 7.5 dB."""
    words, unit = unit_of(name)
    return f"{words} {short(value)} {unit}".rstrip()


def unit_of(name: str) -> tuple[str, str]:
    """snr_db -> snr, dB; no unit is an empty one."""
    words, _, last = name.rpartition("_")
    return (words.replace("_", " "), UNITS[last]) if words and last in UNITS else (name.replace("_", " "), "")


def count(value: float) -> str:
    """20000 -> 20 000, with thin spaces that do not break."""
    return short(value) if abs(value) >= 1e12 else f"{value:,.0f}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """3725 -> 1 h 2 min; a dash beyond 100 years."""
    if not abs(seconds) < 3e9:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
