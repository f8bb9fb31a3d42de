"""A cell holds one recording in a table: a picture, an array, a wave with its rate, the bytes of a file, or a text.

Translated, it has the form that it had: a picture of Pillow its mode, an array its layout and type, a file its format.
"""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image as Pillow

from mmcycle.data import hf_files
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.shard import Translates

Act = Callable[[Any], Any]              # a recording of the source -> its translation
Turn = Callable[[np.ndarray], np.ndarray]


class Way(NamedTuple):
    """What a cell may leave open: the rate of a wave, Hz; of whole numbers that have become int64 the type that they
    had; the folder of a file that is only named.
    """

    rate: int | None = None
    dtype: str | None = None
    root: Path | None = None


def translated(translator: Translates, cell: Any, act: Act, way: Way) -> Any:
    """One cell -> its translation; nothing stays nothing. RecordingError where it is no recording of the model's."""
    if cell is None:
        return None
    if isinstance(cell, Mapping) and "array" in cell:
        way = way._replace(rate=cell.get("sampling_rate") or way.rate)
        return {"array": _array(translator, cell["array"], act, way), "sampling_rate": way.rate}
    if isinstance(cell, Pillow):
        return _picture(translator, cell, act)
    if isinstance(cell, np.ndarray | list | tuple):
        return _array(translator, cell, act, way)
    if isinstance(cell, str) and ".txt" not in translator.source.suffixes:
        cell = {"bytes": None, "path": cell}
    if isinstance(cell, str) or hf_files.is_file(cell):
        return _file(translator, cell, act, way.root)
    raise RecordingError(f"is {type(cell).__name__}; a cell is a picture of Pillow, an array (its bands last), "
                         '{"array", "sampling_rate"}, {"bytes", "path"}, bytes, or a text for a model of texts')


def _picture(translator: Translates, picture: Pillow, act: Act) -> Pillow:
    import torch

    from mmcycle.transforms.streams import like, tensor_of

    _check_kept(translator)
    bands = tensor_of(picture).numpy()
    raw = translator.source.from_array(bands)
    if raw is None:
        raise RecordingError(f"a picture of mode {picture.mode!r} is none for {_kind(translator.source)}; convert it")
    return like(torch.from_numpy(np.ascontiguousarray(translator.target.to_array(act(raw), bands))), picture)


def _array(translator: Translates, cell: Any, act: Act, way: Way) -> Any:
    """Tried with the last axis first, where Pillow, Ray and datasets have the bands of a picture, then as it is."""
    _check_kept(translator)
    given = np.asarray(cell)
    narrow = _narrow(given, way.dtype)
    for there, back in LAYOUTS.get(given.ndim, ()):
        array = np.ascontiguousarray(there(narrow))
        raw = translator.source.from_array(array, way.rate)
        if raw is not None:
            made = back(np.asarray(translator.target.to_array(act(raw), array))).astype(given.dtype)
            return made if isinstance(cell, np.ndarray) else made.tolist()
    raise RecordingError(f"an array {given.shape} of {given.dtype} is none for {_kind(translator.source)}"
                         + ('; whole numbers that were made int64 need their type: dtypes={"image": "uint8"}'
                            if given.dtype == np.int64 else ""))


def _narrow(given: np.ndarray, dtype: str | None) -> np.ndarray:
    """Lists of Python and the arrays of datasets are of 64 bits, recordings are not."""
    if given.dtype == np.float64:
        return given.astype(np.float32)
    if given.dtype != np.int64 or dtype is None:
        return given
    narrow = given.astype(dtype)
    if not np.array_equal(narrow, given):
        raise RecordingError(f"an array of whole numbers from {given.min()} to {given.max()} does not fit into {dtype}")
    return narrow


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


LAYOUTS: dict[int, tuple[tuple[Turn, Turn], ...]] = {
    1: ((_as_it_is, _as_it_is),),
    2: ((_as_it_is, _as_it_is), (lambda gray: gray[None], lambda bands: bands[0])),
    3: ((lambda last: np.moveaxis(last, -1, 0), lambda first: np.moveaxis(first, 0, -1)), (_as_it_is, _as_it_is)),
}


def _file(translator: Translates, cell: Any, act: Act, root: Path | None) -> Any:
    """Through files that are gone afterwards: sensors read and write these."""
    named = isinstance(cell, Mapping) and cell["bytes"] is None
    content = _named_file(cell.get("path"), root) if named else hf_files.content(cell)
    told = {"bytes": content, "path": cell.get("path")} if named else cell
    suffix = ".txt" if isinstance(cell, str) else f".{hf_files.suffix(told)}"
    source, target = translator.source, translator.target
    if suffix not in source.suffixes:
        raise RecordingError(f"is a file {suffix}; {_kind(source)} reads {', '.join(source.suffixes)}")
    new = suffix if suffix in target.suffixes else target.suffixes[0]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, f"recording{suffix}"), Path(folder, f"translation{new}")
        before.write_bytes(content)
        try:
            target.save(act(source.load(before)), after)
        except RecordingError as error:
            raise RecordingError(str(error).replace(f"{folder}/", "")) from error
        made = after.read_bytes()
    if isinstance(cell, Mapping):
        path = cell.get("path")
        return {"bytes": made, "path": str(PurePosixPath(path).with_suffix(new)) if path else None}
    return made.decode("utf-8") if new == ".txt" and isinstance(cell, str) else made


def _named_file(path: Any, root: Path | None) -> bytes:
    if not isinstance(path, str) or root is None:
        raise RecordingError(f"names a file, {path!r}, and does not hold it; give root=, the folder of all such files")
    place = (root / path).resolve()
    if not place.is_relative_to(root.resolve()):
        raise RecordingError(f"names {path!r}, which lies outside {root}; it was not opened")
    try:
        return place.read_bytes()
    except OSError as error:
        raise RecordingError(f"{place}: cannot be read: {error.strerror or error}") from error


def _check_kept(translator: Translates) -> None:
    if type(translator.source) is not type(translator.target):
        raise UserError(f"this model makes {_kind(translator.target)} of {_kind(translator.source)}; give it files, "
                        "as bytes: an array or a picture can only become one of its kind")


def _kind(modality: object) -> str:
    return type(modality).__name__
