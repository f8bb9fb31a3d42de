"""What a photograph of a simulated street shows, in one sentence, and back: "two cars and many trees by night"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from mmcycle.errors import UserError
from mmcycle.simulate.camera import VIEWS
from mmcycle.simulate.mesh import Semantic

KINDS = {  # in the order in which a caption names them: one, several
    Semantic.CAR: ("car", "cars"),
    Semantic.PERSON: ("person", "people"),
    Semantic.VEGETATION: ("tree", "trees"),
    Semantic.TRAFFIC_LIGHT: ("traffic light", "traffic lights"),
}
NUMBERS = ("no", "one", "two", "three", "many")
MANY = len(NUMBERS) - 1  # and what is more
CLEAR = 0.005  # share of the picture that a thing fills to be named
_LIGHT = {"day": "by day", "night": "by night", "fog": "in fog"}
_NAMED = {name: kind for kind, names in KINDS.items() for name in names}
_PHRASE = re.compile(rf"\b({'|'.join(NUMBERS[1:])}) ({'|'.join(sorted(_NAMED, key=len, reverse=True))})\b")


@dataclass(frozen=True)
class Shown:
    """What a caption tells. view: day, night or fog, "" where it does not say; the counts end at 4, which is "many"."""

    view: str
    counts: tuple[int, ...]  # of each of KINDS

    @classmethod
    def of(cls, semantic: Array, instance: Array, view: str) -> "Shown":
        """Two masks (H, W) of a photograph, and the light in which it was taken."""
        least = max(CLEAR * semantic.size, 1)
        found = (np.unique(instance[(semantic == kind) & (instance > 0)], return_counts=True)[1] for kind in KINDS)
        return cls(view, tuple(min(int((sizes >= least).sum()), MANY) for sizes in found))

    @property
    def attributes(self) -> dict[str, int]:
        """Name -> value, for classifiers: the view's number in VIEWS, or -1; of each kind 0 none, 1 one, 2 several."""
        view = VIEWS.index(self.view) if self.view in VIEWS else -1
        return {"view": view} | {names[0]: min(count, 2) for names, count in zip(KINDS.values(), self.counts)}


def read_captions(folder: Path) -> dict[str, Array]:
    """Every .txt below a folder, by path -> the attributes of each, (N,) whole numbers."""
    told = [parse(path.read_text(encoding="utf-8")).attributes for path in sorted(folder.rglob("*.txt"))]
    if not told:
        raise UserError(f"{folder} holds no caption: write them with mmcycle simulate street --captions")
    return {name: np.array([one[name] for one in told]) for name in told[0]}


def caption(shown: Shown) -> str:
    """ "three cars and one person by day"; "an empty street in fog"."""
    parts = [
        f"{NUMBERS[count]} {one if count == 1 else several}"
        for (one, several), count in zip(KINDS.values(), shown.counts)
        if count
    ]
    return f"{_joined(parts) or 'an empty street'} {_LIGHT[shown.view]}"


def is_caption(text: str) -> bool:
    """Whether `caption` would write it, letter for letter but for white space around it."""
    shown = parse(text)
    return bool(shown.view) and caption(shown) == text.strip()


def parse(text: str) -> Shown:
    """The way back, of any text: what cannot be read is not there, and the first mention of a kind counts."""
    counts = dict.fromkeys(KINDS, 0)
    for number, name in reversed(_PHRASE.findall(text.lower())):
        counts[_NAMED[name]] = NUMBERS.index(number)
    views = [(text.lower().find(phrase), view) for view, phrase in _LIGHT.items() if phrase in text.lower()]
    return Shown(min(views)[1] if views else "", tuple(counts.values()))


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
