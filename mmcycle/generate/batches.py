"""Trained models over batches of somebody's own table: for `map_batches` of Ray Data and `map` of datasets.

    ray.data.read_images("day", include_paths=True).map_batches(
        mmcycle.BatchTranslator, fn_constructor_args=({"image": "/runs/night"}, "path"), num_gpus=1, concurrency=8)
    dataset.map(mmcycle.BatchTranslator({"image": "runs/night"}, key="id"), batched=True)
"""
from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.generate.cells import Way, translated
from mmcycle.generate.dataset import load_translator
from mmcycle.generate.manifest import item_seed
from mmcycle.generate.plan import parse_run
from mmcycle.generate.shard import Loader, Share, Translates


class BatchTranslator:
    """A batch, column -> values, with some columns translated, each by its own model; the others stay.

    with_      column -> "RUN", "RUN:ab" or "RUN:ba", as for `mmcycle generate --with`
    key        the column of names that decide each row's seed, as the keys of `generate` do: the same name always the
               same translation, whatever the batch or worker; needed where something is drawn
    strength   in [0, 1], how far to go, or (low, high): drawn for every row by its seed
    copy       which of several translations of a row: another number, another seed
    rates      column -> Hz, of waves that do not bring their rate; those of the model where not given
    dtypes     column -> "uint8", "uint16": what whole numbers are that arrive as int64, as datasets makes them
    root       the folder below which cells may name files that they do not hold; without one they are refused

    For what a cell may be see `generate/cells.py`. The models are loaded at the first batch, once in every process.
    RecordingError names the row and the column that cannot be translated.
    """

    def __init__(
        self, with_: Mapping[str, str], key: str | None = None, *, strength: float | tuple[float, float] = 1.0,
        seed: int = 0, copy: int = 0, rates: Mapping[str, int] | None = None, dtypes: Mapping[str, str] | None = None,
        root: str | Path | None = None, load: Loader = load_translator,
    ):
        low, high = strength if isinstance(strength, Sequence) else (strength, strength)
        if not 0 <= low <= high <= 1:           # false for NaN too
            raise UserError(f"BatchTranslator: strength is {strength}; it lies in [0, 1], the lower end first")
        if not isinstance(with_, Mapping) or not with_:
            raise UserError('BatchTranslator: name a column with its run, such as {"image": "runs/day_to_night:ab"}')
        runs = {column: parse_run(column, str(value)) for column, value in with_.items()}
        rates, dtypes = dict(rates or {}), dict(dtypes or {})
        strange = next((column for column in (*rates, *dtypes) if column not in runs), None)
        if strange is not None:
            raise UserError(f"BatchTranslator: rates or dtypes name {strange!r}; translated are "
                            f"{', '.join(map(repr, runs))}")
        self.runs = {column: (run.absolute(), direction) for column, (run, direction) in runs.items()}
        self.key, self.strength, self.seed, self.copy, self.load = key, (low, high), seed, copy, load
        root = None if root is None else Path(root).absolute()
        self.ways = {column: Way(rates.get(column), dtypes.get(column), root) for column in runs}
        self.stamps = {column: _stamp(run) for column, (run, _) in self.runs.items()}
        self._translators: dict[str, Translates] = {}

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        """`rank` is the number of this process among several, `map(..., with_rank=True)`: it takes the GPU of its turn.

        A plain dict comes back whole, as Ray wants it; of a lazy batch of datasets only what was translated.
        """
        if not isinstance(batch, Mapping):
            raise UserError(f"BatchTranslator: a batch is a dict of columns, not {type(batch).__name__}: "
                            'map_batches(..., batch_format="numpy") or map(..., batched=True)')
        for column in (*self.runs, *([self.key] if self.key is not None else [])):
            if column not in batch:
                hint = get_close_matches(column, batch, n=1)
                raise UserError(f"BatchTranslator: there is no column {column!r}, only {', '.join(map(repr, batch))}"
                                + (f". Did you mean {hint[0]!r}?" if hint else ""))
        translators = self._loaded(rank)
        made = {column: self._column(batch, column, translators[column]) for column in self.runs}
        return {**(batch if isinstance(batch, dict) else {}), **made}

    def __getstate__(self) -> dict[str, Any]:
        """Values only: a copy in another process loads its own models, and datasets finds its cache by what is here."""
        return self.__dict__ | {"_translators": {}}

    def _loaded(self, rank: int | None) -> dict[str, Translates]:
        if not self._translators:
            share = Share()
            if rank is not None:
                import torch

                share = Share(rank, max(torch.cuda.device_count(), torch.get_num_threads()))    # one core, or one GPU
            found = {column: self.load(run, direction, share) for column, (run, direction) in self.runs.items()}
            drawn = self.strength[0] < self.strength[1] or any(one.stochastic for one in found.values())
            if drawn and self.key is None:
                raise UserError("BatchTranslator: what is drawn for a row is drawn by its name; "
                                "name the column of names with key=")
            self._translators = found
        return self._translators

    def _column(self, batch: Mapping[str, Any], column: str, translator: Translates) -> Any:
        values = batch[column]
        keys = [None] * len(values) if self.key is None else batch[self.key]
        made = [self._cell(column, translator, value, key) for value, key in zip(values, keys, strict=True)]
        return _packed(made) if isinstance(values, np.ndarray) and made else made

    def _cell(self, column: str, translator: Translates, value: Any, key: Any) -> Any:
        where = f"column {column!r}" if self.key is None else f"column {column!r} of {key!s:.200}"
        if self.key is not None and (key is None or key != key):
            raise UserError(f"{where}: a row without a name in column {self.key!r} has no seed")
        seed = item_seed(self.seed, str(key), self.copy)
        low, high = self.strength
        strength = high if low == high else round(random.Random(seed).uniform(low, high), 6)
        act = translator.perform
        try:
            return translated(translator, value, lambda raw: act(raw, strength, seed).raw, self.ways[column])
        except RecordingError as error:
            raise RecordingError(f"{where}: {error}") from error
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except MmcycleError:
            raise
        except Exception as error:      # a sensor's own code meets recordings that its author never saw
            raise RecordingError(f"{where}: could not be translated: {type(error).__name__}: {error}") from error


def _packed(values: list[Any]) -> np.ndarray:
    """One array of arrays of one shape, else an array of objects."""
    if all(isinstance(value, np.ndarray) for value in values) and len({(one.shape, one.dtype) for one in values}) == 1:
        return np.stack(values)
    packed = np.empty(len(values), object)
    packed[:] = values
    return packed


def _stamp(run: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a run is trained on, without reading weights: datasets must not answer from an old cache."""
    checkpoints = run / "checkpoints"
    found = sorted(checkpoints.rglob("*")) if checkpoints.is_dir() else [run]
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found)
