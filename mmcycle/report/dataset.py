"""What a generated data set tells: its manifest, quarantine and job, as the values that dataset.html shows."""
import json
import math
from collections import Counter
from pathlib import Path, PurePosixPath
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from mmcycle.report.album import Album
from mmcycle.report.numbers import Card, count, short, unit_of
from mmcycle.report.pairs import PAIRS, Pair, Sensors, Shelves, chosen_rows, named, show_pairs, with_translation
from mmcycle.report.rows import listing, mapping, number, read_object, read_rows
from mmcycle.report.safety import describe_safety, ends
from mmcycle.report.shelf import Shelf

QUARANTINED = 200                               # rows of the quarantine shown
MOST_FACTS = 40                                 # rows of the table of numbers


def describe_dataset(folder: Path) -> dict[str, Any]:
    """Everything dataset.html needs."""
    rows, notes = read_rows(folder / "manifest.jsonl")
    quarantine, more = read_rows(folder / "quarantine.jsonl")
    left_out, others = read_rows(folder / "left_out.jsonl")
    notes += more + others
    job = read_object(folder / ".mmcycle" / "job.json")
    source = _source(job, notes)
    album = Album()
    groups = _groups(rows, folder, source, album, job)
    pairs = [pair for group in groups.values() for pair in group]
    notes += album.notes
    return {
        "name": folder.resolve().name,
        "summary": _cards(rows, quarantine, left_out),
        "streams": _streams(rows),
        "models": _models(rows),
        "labels": _labels(rows),
        "tags": _tags(rows),
        "pairs": pairs,
        "groups": groups,
        "safety": describe_safety(rows, left_out, job),
        "kinds": {kind for pair in pairs for kind in pair.kinds},
        "several": any(len(pair.parts) > 1 for pair in pairs),
        "translated": count(_translated(rows)),
        "full": album.full,
        "measured": _measured(rows),
        "has_source": source is not None,
        "details": _facts(rows, job),
        "quarantine": [_quarantined(row) for row in quarantine[:QUARANTINED]],
        "quarantine_left": max(0, len(quarantine) - QUARANTINED),
        "job": json.dumps(job, indent=2, ensure_ascii=False)[:20_000] if job else "",
        "remarks": notes,
    }


def _groups(
    rows: list[dict[str, Any]], folder: Path, source: Path | None, album: Album, job: dict[str, Any]
) -> dict[str, list[Pair]]:
    """Pairs by why they are shown: "low" and "high", of those with a score of label safety, and "even".

    What a page needs of shards is unpacked for as long as it is made.
    """
    low, high, rest = ends(with_translation(rows))
    chosen = {"low": low, "high": high, "even": chosen_rows(rest, PAIRS - len(low) - len(high))}
    every = [row for group in chosen.values() for row in group]
    with TemporaryDirectory(prefix="mmcycle-report-") as spare:
        before, after = Path(spare, "source"), Path(spare, "out")
        shelves = Shelves(
            source=None if source is None else Shelf(source, named(every, "source"), before, album.notes),
            out=Shelf(folder, named(every, "output"), after, album.notes),
        )
        return {why: show_pairs(group, shelves, album, Sensors(job)) for why, group in chosen.items()}


def _source(job: dict[str, Any], notes: list[str]) -> Path | None:
    """The source's root, if the job names one that still exists."""
    named = job.get("source")
    if isinstance(named, str) and "\0" not in named and Path(named).is_dir():
        return Path(named)
    notes.append("The source data set was not found, so translations are shown without it.")
    return None


def _cards(
    rows: list[dict[str, Any]], quarantine: list[dict[str, Any]], left_out: list[dict[str, Any]]
) -> list[Card]:
    keys = {str(row.get("key")) for row in rows}
    total, bad = len(rows) + len(quarantine) + len(left_out), bool(quarantine)
    copies = f"{count(len(keys))} records × {len(rows) / len(keys):.2g} copies" if len(rows) > len(keys) else ""
    streams = (stream for row in rows for stream in mapping(row.get("streams")).values())
    files = len({str(mapping(stream).get("output")) for stream in streams})
    labels = len({str(mapping(label).get("output")) for row in rows for label in listing(row.get("labels"))})
    safest = [Card("left out", count(len(left_out)), "the least safe")] if left_out else []
    return [
        Card("done", count(len(rows)), copies or f"of {count(total)}", len(rows) / total if total else None),
        *safest,
        Card("quarantined", count(len(quarantine)), "named below" if bad else "nothing refused", alarm=bad),
        Card("recordings", count(files), "written"),
        Card("label files", count(labels), "kept" if labels else "none beside the recordings"),
    ]


def _streams(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per stream: how many files were translated, and how many copied."""
    translated, copied = Counter(), Counter()
    for row in rows:
        for name, stream in mapping(row.get("streams")).items():
            (translated if mapping(stream).get("translated") else copied)[str(name)[:80]] += 1
    names = dict.fromkeys([*translated, *copied])
    return [{"name": name, "translated": count(translated[name]), "copied": count(copied[name])} for name in names][:50]


def _models(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every model that wrote a stream: run, direction, hash, and the number of records."""
    used = Counter()
    for row in rows:
        for stream, model in mapping(row.get("model")).items():
            used[(stream, *(str(mapping(model).get(key, "")) for key in ("run", "direction", "sha256")))] += 1
    return [
        {"stream": stream[:80], "run": run[:200], "direction": way[:20], "sha256": digest[:64], "records": count(n)}
        for (stream, run, way, digest), n in used.most_common(20)
    ]


def _labels(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per kind of label file (its suffix): how it was carried, and how often."""
    every = {                                   # a table stands in the row of each record it speaks of
        (str(label.get("output")), str(label.get("how"))[:40])
        for row in rows for label in map(mapping, listing(row.get("labels")))
    }
    carried = Counter((PurePosixPath(output).suffix[:20] or "no suffix", how) for output, how in every)
    ordered = sorted(carried.items(), key=lambda item: (-item[1], item[0]))
    return [{"suffix": suffix, "how": how, "files": count(files)} for (suffix, how), files in ordered[:20]]


def _tags(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per tag and value: how many records."""
    seen = Counter((str(tag)[:60], str(value)[:60]) for row in rows for tag, value in mapping(row.get("tags")).items())
    return [{"tag": tag, "value": value, "records": count(records)} for (tag, value), records in seen.most_common(40)]


def _translated(rows: list[dict[str, Any]]) -> int:
    """How many records have a stream that was translated."""
    every = (mapping(row.get("streams")).values() for row in rows)
    return sum(any(mapping(stream).get("translated") for stream in streams) for streams in every)


def _measured(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per number that the models told of their translations ("audio.snr_db"): how it is distributed."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in mapping(row.get("params")).items():
            if "." in str(name) and math.isfinite(number(value)):
                found.setdefault(str(name)[:80], []).append(number(value))
    return [_distribution(name, values) for name, values in list(found.items())[:MOST_FACTS]]


def _distribution(name: str, values: list[float]) -> dict[str, str]:
    tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else values * 9
    spread = {"lowest": min(values), "low": tenths[0], "middle": tenths[4], "high": tenths[8], "highest": max(values)}
    words, unit = unit_of(name)
    told = {key: short(value) for key, value in spread.items()}
    return {"name": f"{words}, {unit}" if unit else words, "records": count(len(values)), **told}


def _facts(rows: list[dict[str, Any]], job: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, value) pairs about where the data set comes from."""
    versions = mapping(rows[-1].get("versions")) if rows else {}
    facts = [(key, job.get(key)) for key in ("command", "source", "layout", "seed", "copies", "strength", "keep_best")]
    facts += sorted((versions or mapping(job.get("versions"))).items())
    return [(str(label)[:40], _plain(value)) for label, value in facts if value is not None]


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " – ".join(dict.fromkeys(map(str, value)))[:400]     # strength: lowest and highest
    return str(value)[:400]


def _quarantined(row: dict[str, Any]) -> dict[str, str]:
    return {key: str(row.get(key, ""))[:300] for key in ("key", "copy", "stream", "path", "reason")}

