"""What a network answered on a test set: kept item by item, scored as a whole, and drawn again and again.

Letters: N items, K classes, R networks, D draws. A tally is what is kept of one network's answers, whole numbers: the
class that it gave each item, (N,); of masks how often it took class i for class j in each item, (N, K * K).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mmcycle.metrics.labelled import Kind, Samples

DRAWS = 2000
AT_ONCE = 200                                   # draws
MAIN = {"classes": "accuracy", "masks": "mean_iou"}     # the measure that decides


@dataclass(frozen=True, eq=False)
class Asked:
    """A labelled test set and what its answers are worth."""

    samples: Samples
    classes: tuple[str, ...]
    kind: Kind

    @property
    def truth(self) -> np.ndarray:
        return self.samples.y.numpy()

    @property
    def there(self) -> np.ndarray:
        """(K,) whether a class occurs at all: what never does is left out of every mean over classes."""
        return np.bincount(self.truth[self.truth >= 0].ravel(), minlength=len(self.classes)) > 0

    def tally(self, found: Tensor) -> np.ndarray:
        """Answers (N,), or (N, H, W), as they are kept."""
        answers, count = found.numpy(), len(self.classes)
        if self.kind == "classes":
            return answers.astype(np.int64)
        pairs = [true[true >= 0] * count + said[true >= 0] for true, said in zip(self.truth, answers)]
        return np.stack([np.bincount(one, minlength=count**2) for one in pairs])

    def fits(self, tally: np.ndarray) -> bool:
        """Whether a tally that was read from a file can be one of this test set."""
        count = len(self.classes)
        if self.kind == "classes":
            return tally.shape == self.truth.shape and bool(((tally >= 0) & (tally < count)).all())
        return tally.shape == (len(self.truth), count**2) and bool((tally >= 0).all())

    def score(self, tally: np.ndarray) -> dict[str, float]:
        """Per cent: accuracy, balanced_accuracy and "recall: CLASS"; or mean_iou, pixel_accuracy and "iou: CLASS"."""
        confusion = self._confusion(tally)
        hits, true = np.diag(confusion), confusion.sum(1)
        overall = 100 * float(hits.sum() / max(true.sum(), 1))
        if self.kind == "classes":
            recall = 100 * hits / np.maximum(true, 1)
            balanced = float(recall[self.there].mean())
            return {"accuracy": overall, "balanced_accuracy": balanced} | self._named("recall", recall)
        overlap = 100 * hits / np.maximum(true + confusion.sum(0) - hits, 1)
        return {"mean_iou": float(overlap[self.there].mean()), "pixel_accuracy": overall} | self._named("iou", overlap)

    def _named(self, measure: str, values: np.ndarray) -> dict[str, float]:
        there = zip(self.classes, values, self.there)
        return {f"{measure}: {name}": float(value) for name, value, occurs in there if occurs}

    def draws(self, seed: int) -> np.ndarray:
        """How often each item comes in each draw, (D, N): whole groups are drawn where recordings belong together."""
        names, place = np.unique(self.samples.groups, return_inverse=True)
        rng = np.random.default_rng(seed)
        return rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)[:, place]

    def redrawn(self, tallies: Sequence[np.ndarray], draws: np.ndarray) -> np.ndarray:
        """The main measure in every draw, the mean over R networks: (D,), per cent."""
        if self.kind == "classes":
            right = np.mean([one == self.truth for one in tallies], axis=0)
            return 100 * (draws @ right) / draws.sum(1)
        parts = (draws[at : at + AT_ONCE] for at in range(0, len(draws), AT_ONCE))
        return np.concatenate([self._overlaps(tallies, part) for part in parts])

    def _overlaps(self, tallies: Sequence[np.ndarray], draws: np.ndarray) -> np.ndarray:
        count = len(self.classes)
        found = []
        for tally in tallies:
            confusion = (draws.astype(float) @ tally).reshape(-1, count, count)
            hits, true = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2)
            overlap = 100 * hits / np.maximum(true + confusion.sum(1) - hits, 1)
            found.append((overlap * (true > 0)).sum(1) / np.maximum((true > 0).sum(1), 1))
        return np.mean(found, axis=0)

    def _confusion(self, tally: np.ndarray) -> np.ndarray:
        """(K, K): true class, class that was given."""
        count = len(self.classes)
        if self.kind == "masks":
            return tally.sum(0).reshape(count, count)
        return np.bincount(self.truth * count + tally, minlength=count**2).reshape(count, count)
