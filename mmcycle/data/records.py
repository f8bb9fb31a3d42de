"""A record is what one moment, or one clip, left on disk: its recordings by stream, and the labels that go with it."""
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Record:
    """Paths are relative to the data set's root and use '/'.

    key       what the files of this record share, unique in the data set: the path without its suffix ("train/000012")
    streams   stream name -> recording: {"image": "train/000012.jpg"}; {"camera": ..., "lidar": ...}; two streams of one
              path lie in one file: a clip's pictures and its sound
    labels    files that belong to this record alone and are copied byte for byte: masks, boxes, calibration
    concerns  label -> the streams that it speaks of; a label that is not named here speaks of all of them
    tags      what a person may want to filter by and the manifest repeats: {"class": "cat", "split": "train"}
    """

    key: str
    streams: dict[str, str]
    labels: tuple[str, ...] = ()
    concerns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def streams_of(self, label: str) -> tuple[str, ...]:
        """The streams that a label speaks of: what it says holds as long as their sensors stay what they are."""
        return self.concerns.get(label, tuple(self.streams))


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A labelled data set on disk, as a layout found it.

    records   sorted by key
    tables    files that speak of many records (COCO json, a CSV of labels, classes.txt): copied, or rewritten when
              copies add names
    strays    files that no record claimed: (path, why), told to the user, never silently dropped
    """

    root: Path
    layout: str
    records: tuple[Record, ...]
    tables: tuple[str, ...] = ()
    strays: tuple[tuple[str, str], ...] = ()
