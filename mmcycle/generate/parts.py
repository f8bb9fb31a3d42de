"""A part is one file of a record: the streams that lie in it, what translates it, and where it is written."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from mmcycle.data import labels
from mmcycle.data.clips import SUFFIXES
from mmcycle.data.records import Record
from mmcycle.errors import UserError

if TYPE_CHECKING:
    from mmcycle.generate.shard import Translates

IN_A_CLIP = ("camera", "audio")
SMOOTH = 0.8                            # of films: see generate/steadiness.py


class Part(NamedTuple):
    """path is relative to the source; translator None: the file is copied byte for byte."""

    path: str
    streams: tuple[str, ...]
    translator: Translates | None
    joint: bool = False                 # the translator reads, translates and writes piece by piece, while it saves

    @property
    def name(self) -> str:
        """"lidar"; "camera+audio"."""
        return "+".join(self.streams)

    def output(self, copy: int) -> str:
        """Where a copy stands in OUT; another suffix only where the other sensor cannot write it."""
        path, suffix = self.path, PurePosixPath(self.path).suffix
        if self.translator is not None and not path.lower().endswith(self.translator.target.suffixes):
            path = path.removesuffix(suffix) + self.translator.target.suffixes[0]
        return labels.copy_name(path, copy)


def parts_of(
    record: Record, translators: Mapping[str, Translates], smooth: float = SMOOTH,
    judges: Mapping[str, str] | None = None,
) -> list[Part]:
    """The files of a record; UserError for one that its translators do not read.

    Who performs says smooth and judges.
    """
    lying: dict[str, list[str]] = defaultdict(list)
    for stream, path in record.streams.items():
        lying[path].append(stream)
    return [_part(path, tuple(streams), translators, smooth, judges or {}) for path, streams in lying.items()]


def _part(
    path: str, streams: tuple[str, ...], translators: Mapping[str, Translates], smooth: float, judges: Mapping[str, str]
) -> Part:
    acting = {stream: translators[stream] for stream in streams if stream in translators}
    if not acting:
        return Part(path, streams, None)
    stream, one = next(iter(acting.items()))
    if len(streams) == 1 and path.lower().endswith(one.source.suffixes):
        return Part(path, streams, one)
    if path.lower().endswith(SUFFIXES) and set(streams) <= set(IN_A_CLIP):
        from mmcycle.generate.clips import joined

        whole = joined({stream: acting.get(stream) for stream in IN_A_CLIP}, smooth, judges)
        return Part(path, streams, whole, joint=True)
    if len(streams) > 1:
        raise UserError(f"{path}: holds the streams {' and '.join(streams)}; only a clip ({', '.join(SUFFIXES)}) is "
                        f"one file of several streams, and these are called {' and '.join(IN_A_CLIP)}")
    raise UserError(f"{path}: the run of stream {stream!r} reads {', '.join(one.source.suffixes)}, not this")
