"""Which recordings of two domains are true partners: those with equal paths, or those that a table names."""
from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from mmcycle.data.layouts.table import delimiter_of
from mmcycle.data.seeds import seed_of
from mmcycle.errors import UserError
from mmcycle.files import write_text

if TYPE_CHECKING:
    from mmcycle.data.samplers import Domain

Partners = Mapping[int, tuple[int, ...]]        # recording of a -> those of b that are its partners

COLUMNS = ("a", "b")


def known_partners(a: Domain, b: Domain, fraction: float, seed: int, table: Path | None = None) -> Partners:
    """The partners of a share of the recordings of `a`, at least of one unless the share is 0.

    The seed and the paths choose; a larger share holds the pairs of a smaller one. By equal paths every recording has
    one partner, and none may be alone unless the share is below 1; by a table one may have several, or none.
    """
    every = _by_table(a, b, table) if table is not None else _by_path(a, b, fraction < 1)
    if fraction == 1:
        return every
    if fraction > 0 and not every:
        raise UserError(
            f"{a.root} and {b.root} hold no pair: no two recordings share a relative path, suffixes aside. Name "
            "partners alike, or set data.paired to false."
        )
    order = sorted(every, key=lambda index: (seed_of(seed, "known", stem_of(a.names[index])), a.names[index]))
    count = max(round(fraction * len(order)), 1) if fraction else 0
    return {index: every[index] for index in order[:count]}


def told_partners(a: Domain, b: Domain, known: Partners, alone: bool) -> list[str]:
    """What a person should know of the partners before training; alone: nothing else is learned from."""
    notes = []
    strangers = len(b) - len({one for several in known.values() for one in several})
    if strangers and len(known) == len(a) and not alone:
        notes.append(f"{strangers} of the {len(b)} recordings of {b.root} have no partner and are never seen, because all "
                     f"of {a.root} have one")
    kinds = [type(one.modality).__name__ for one in (a, b)]
    if kinds[0] != kinds[1] and a.modality.extensive and b.modality.extensive and a.modality.wraps != b.modality.wraps:
        turning = a if a.modality.wraps else b
        notes.append(f"training windows of {turning.root} begin anywhere around a full turn, and their partners do not "
                     "turn with them: if both show one view, give the sensor a sector (azimuth) and set data.shared_crop")
    return notes


def write_partners(path: Path, rows: Iterable[tuple[str, str, float]]) -> None:
    """A table of (path in a, path in b, score) that `data.pairs` reads."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([(*COLUMNS, "score"), *((a, b, f"{s:.4f}") for a, b, s in rows)])
    write_text(path, text.getvalue())


def _by_table(a: Domain, b: Domain, table: Path) -> Partners:
    places = [{name: index for index, name in enumerate(domain.names)} for domain in (a, b)]
    found: dict[int, list[int]] = defaultdict(list)
    for line, names in _rows(table):
        for domain, place, name in zip((a, b), places, names):
            if name not in place:
                raise UserError(
                    f"{table}, line {line}: {domain.root} has no recording {name!r}; paths are relative to the root"
                )
        found[places[0][names[0]]].append(places[1][names[1]])
    if not found:
        raise UserError(f"{table} names no pair; `mmcycle match` writes one, with the columns a and b")
    return {index: tuple(sorted(set(found[index]))) for index in sorted(found)}


def _rows(table: Path) -> Iterable[tuple[int, tuple[str, str]]]:
    """Line number and the two paths."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:      # as spreadsheets save it, too
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter_of(head))
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise UserError(f"{table}: its first line names {', '.join(reader.fieldnames or ()) or 'nothing'}; "
                                "the columns a and b are needed")
            for row in reader:
                if not any(row.values()):               # a row that was cleared
                    continue
                if not (row["a"] and row["b"]):
                    raise UserError(f"{table}, line {reader.line_num}: a or b is empty")
                yield reader.line_num, (row["a"], row["b"])
    except OSError as error:
        told = error.strerror or error
        raise UserError(f"{table}: {told}; give the table of pairs that `mmcycle match` writes") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is no table in UTF-8: {error}") from error


def _by_path(a: Domain, b: Domain, some: bool) -> Partners:
    stems_a, stems_b = _stems(a), _stems(b)
    alone = [f"{a.root / a.names[stems_a[stem]]}" for stem in stems_a.keys() - stems_b.keys()]
    alone += [f"{b.root / b.names[stems_b[stem]]}" for stem in stems_b.keys() - stems_a.keys()]
    if alone and not some:
        raise UserError(
            f"{a.root} and {b.root} are not paired: {len(alone)} recordings have no partner with the same relative "
            f"path, among them {', '.join(sorted(alone)[:5])}. Remove them, set data.paired to false or "
            "data.paired_fraction below 1, or name the pairs in a table (data.pairs)."
        )
    return {stems_a[stem]: (stems_b[stem],) for stem in stems_a if stem in stems_b}


def stem_of(name: str) -> str:
    """A path without its suffix: what two partners share. That of a nuScenes sweep is .pcd.bin."""
    return str(Path(name).with_suffix("")).removesuffix(".pcd")


def _stems(domain: Domain) -> dict[str, int]:
    stems: dict[str, int] = {}
    for index, name in enumerate(domain.names):
        if stem_of(name) in stems:
            raise UserError(
                f"{domain.root}: {domain.names[stems[stem_of(name)]]} and {name} differ in the suffix alone, "
                f"so pairs cannot be told; remove one"
            )
        stems[stem_of(name)] = index
    return stems
