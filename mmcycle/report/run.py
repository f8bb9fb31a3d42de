"""What a run tells: its log, its pictures and its config, as the values that run.html shows."""
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmcycle.errors import UserError
from mmcycle.report.album import Album
from mmcycle.report.curves import Chart, Points, chart, smoothed
from mmcycle.report.gain import gains
from mmcycle.report.health import health_charts, warnings
from mmcycle.report.numbers import Card, count, duration, short
from mmcycle.report.rows import mapping, number, read_object, read_rows
from mmcycle.report.scores import LEVELS, Examination, examinations
from mmcycle.strict_yaml import read_yaml

SAMPLES = 6                                     # pictures shown, evenly chosen, the last one large
CONFIG_LETTERS = 60_000
MEASURED = re.compile(r"score|(unlikeness|loss)_[ab]")
MEANING = {
    "adv": "generators: patches not taken for real",
    "cycle": "generators: there and back, against the original",
    "idt": "generators: a recording of the domain stays as it is",
    "nce": "generators: each place resembles its source",
    "paired": "generators: against the true partner",
    "task": "generators: the task network does not change its mind",
    "disc": "discriminators: patches misjudged",
}


def describe_run(folder: Path) -> dict[str, Any]:
    """Everything run.html needs."""
    rows, notes = read_rows(folder / "log.jsonl")
    events = [row for row in rows if "event" in row]
    attempts = [event for event in events if event["event"] in ("start", "resume")]
    logged = [row for row in rows if "event" not in row and math.isfinite(number(row.get("step")))]
    kept = _without_repeats(logged)
    config, config_text = _config(folder / "config.yaml", notes)
    album = Album()
    marks = [number(event.get("step")) for event in attempts if event["event"] == "resume"]
    one_way = mapping(config.get("loss")).get("consistency") in ("nce", "none")
    samples = _samples(folder, album, one_way)
    notes += _bad_recordings(events) + album.notes
    examined, gained = examinations(folder, notes), gains(folder, notes)
    notes += [] if kept else ["No step has been logged yet."]
    domains = {side: _text(mapping(config.get(side)).get("name"), side.upper()) for side in ("a", "b")}
    return {
        "name": _text(config.get("name"), folder.resolve().name),
        **domains,
        "one_way": one_way,
        "summary": _cards(kept, _seconds(rows), config) + _proof_cards(examined, domains),
        "details": _facts(attempts, config),
        "warnings": warnings(events, domains),
        "examined": examined,
        "gained": gained,
        "samples": samples,
        "losses": _loss_charts(kept, marks),
        "scores": _score_charts(kept, marks),
        "health": health_charts(kept, marks),
        "course": _score_of_averages(events, marks) + _course_charts(kept, marks),
        "resumes": len(marks),
        "finals": _finals(kept),
        "metrics": _metrics(folder / "metrics.json"),
        "config": config_text,
        "faults": notes,
    }


def _without_repeats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by rising step: what was logged after the checkpoint that a resume went back to was logged again."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        while kept and kept[-1]["step"] >= row["step"]:
            kept.pop()
        kept.append(row)
    return kept


def _series(rows: list[dict[str, Any]], *keys: str) -> Points:
    """(step, value found by following the keys) of every row."""
    found = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = mapping(value).get(key)
        found.append((float(row["step"]), number(value)))
    return found


def _names(rows: list[dict[str, Any]], section: str) -> list[str]:
    """Every name that ever appears in a section: terms by first appearance, domain a before domain b."""
    names = list(dict.fromkeys(name for row in rows for name in mapping(row.get(section))))[:40]
    terms = list(dict.fromkeys(map(_term, names)))
    return sorted(names, key=lambda name: (terms.index(_term(name)), name))


def _term(name: str) -> str:
    """adv_a -> adv."""
    return re.sub(r"_(a|b|ab|ba)$", "", name)


def _loss_charts(rows: list[dict[str, Any]], marks: list[float]) -> list[Chart]:
    """One chart for the two sides of each term: adv_a and adv_b, cycle_a and cycle_b, ..."""
    groups: dict[str, list[str]] = {}
    for name in _names(rows, "losses"):
        groups.setdefault(_term(name), []).append(name)
    drawn = [
        chart(term, {name: _series(rows, "losses", name) for name in names}, MEANING.get(term, ""), marks)
        for term, names in groups.items()
    ]
    return [one for one in drawn if one]


def _score_charts(rows: list[dict[str, Any]], marks: list[float]) -> list[Chart]:
    """What each discriminator answers to real and to fake recordings, and how far apart that is now."""
    drawn = []
    for side in ("a", "b"):
        names = [name for name in _names(rows, "scores") if name.endswith(f"_{side}")]
        last = {name: _last(smoothed(_series(rows, "scores", name))) for name in names}
        gap = last.get(f"real_{side}", math.nan) - last.get(f"fake_{side}", math.nan)
        caption = f"real minus fake is now {short(gap)}" if math.isfinite(gap) else ""
        drawn.append(chart(f"disc_{side}", {name: _series(rows, "scores", name) for name in names}, caption, marks))
    return [one for one in drawn if one]


def _course_charts(rows: list[dict[str, Any]], marks: list[float]) -> list[Chart]:
    speed = [(step, 1 / value if value > 0 else math.nan) for step, value in _series(rows, "seconds_per_step")]
    bad = _series(rows, "bad_steps")
    drawn = [
        chart("learning rate", {"lr": _series(rows, "lr")}, "", marks, exact=True),
        chart("speed", {"steps per second": speed}, "", marks),
        chart("bad steps", {"bad_steps": bad}, "steps left out because a loss was not finite", marks, exact=True)
        if any(value > 0 for _, value in bad) else None,
    ]
    return [one for one in drawn if one]


def _finals(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One row for each loss and score: last, smoothed last, lowest, highest."""
    table = []
    for section in ("losses", "scores"):
        for name in _names(rows, section):
            points = _series(rows, section, name)
            values = [value for _, value in points if math.isfinite(value)]
            if values:
                table.append({
                    "kind": section, "name": name, "last": short(values[-1]), "smooth": short(_last(smoothed(points))),
                    "low": short(min(values)), "high": short(max(values)),
                })
    return table


def _cards(kept: list[dict[str, Any]], spent: float, config: dict[str, Any]) -> list[Card]:
    """The few numbers that everybody looks for first."""
    step = number(kept[-1]["step"]) if kept else 0.0
    planned = number(mapping(config.get("train")).get("steps"))
    share = min(step / planned, 1.0) if planned > 0 else None
    cards = [
        Card("steps", count(step), f"of {count(planned)}" if planned > 0 else "", share),
        Card("time", duration(spent), "of computing"),
    ]
    seconds = _last(smoothed(_series(kept, "seconds_per_step")))
    if seconds > 0:
        left = (planned - step) * seconds if share is not None else 0
        cards.append(Card("speed", f"{short(1 / seconds)} steps/s", f"{duration(left)} to go" if left > 0 else ""))
    bad = max((value for _, value in _series(kept, "bad_steps") if math.isfinite(value)), default=0)
    below = "with a loss that was not finite" if bad else "all losses finite"
    return [*cards, Card("bad steps", count(bad), below, alarm=bad > 0)]


def _proof_cards(examined: list[Examination], domains: dict[str, str]) -> list[Card]:
    """How many verdicts are good, for each direction that was evaluated."""
    cards = []
    for one in examined:
        good, weak, bad = (one.levels[level] for level in LEVELS)
        every = good + weak + bad
        below = f"good; {weak} weak, {bad} bad" if weak + bad else "good"
        label = "evaluated, {} → {}".format(*(domains[side][:20] for side in one.direction))
        if every:
            cards.append(Card(label, f"{good} of {every}", below, good / every, alarm=bad > 0))
    return cards


def _facts(attempts: list[dict[str, Any]], config: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, value) pairs about where and how the run was computed, as its last attempt tells."""
    merged: dict[str, Any] = {}
    for event in attempts:
        merged |= {key: value for key, value in event.items() if value is not None}
    model, run = mapping(config.get("model")), mapping(config.get("run"))
    facts = [
        ("device", merged.get("device")),
        ("started", attempts[0].get("time_utc") if attempts else None),
        *((f"recordings of {key}", size) for key, size in sorted(mapping(merged.get("recordings")).items())),
        ("generator", model.get("generator")),
        ("precision", run.get("precision")),
        ("seed", run.get("seed")),
        *sorted(mapping(merged.get("versions")).items()),
    ]
    return [(str(label)[:40], str(value)[:80]) for label, value in facts if value is not None]


def _samples(folder: Path, album: Album, one_way: bool) -> list[dict[str, Any]]:
    """The newest sample first, then earlier ones: step, pictures (one for each direction: the halves of the sheet)."""
    found = sorted(_sample_files(folder / "samples"), reverse=True)
    if len(found) > SAMPLES:
        found = [found[round(index * (len(found) - 1) / (SAMPLES - 1))] for index in range(SAMPLES)]
    shown = []
    for index, (step, name) in enumerate(found):
        width = 800 if index == 0 else 512
        pictures = album.show_stacked(folder, f"samples/{name}", width, 1 if one_way else 2)
        if pictures:
            shown.append({"step": count(step), "pictures": pictures})
    return shown


def _sample_files(folder: Path) -> Iterable[tuple[int, str]]:
    if folder.is_dir():
        for path in folder.iterdir():
            match = re.fullmatch(r"step-(\d{1,12})[\w-]*\.(png|jpg)", path.name)
            if match:
                yield int(match[1]), path.name


def _metrics(path: Path) -> list[dict[str, str]]:
    """metrics.json, {name: number or {mean, low, high}} -> rows of text; sections are one level deep at most."""
    table = []
    for name, value in read_object(path).items():
        one = mapping(value)
        mean = number(one.get("mean", one.get("value", value)))
        low, high = number(one.get("low")), number(one.get("high"))
        interval = f"{short(low)} … {short(high)}" if math.isfinite(low) and math.isfinite(high) else ""
        if math.isfinite(mean):
            table.append({"name": str(name)[:120], "value": short(mean), "interval": interval})
    return table[:100]


def _config(path: Path, notes: list[str]) -> tuple[dict[str, Any], str]:
    """The config's values, none if it is broken, and its text."""
    if not path.is_file():
        return {}, ""
    with path.open("rb") as file:
        text = file.read(CONFIG_LETTERS).decode("utf-8", errors="replace")
    try:
        return read_yaml(path)[0], text
    except UserError as error:
        notes.append(f"{error}.")
        return {}, text


def _score_of_averages(events: list[dict[str, Any]], marks: list[float]) -> list[Chart]:
    """By what the best checkpoint is chosen: see train/validation.py."""
    told = [event for event in events if event["event"] == "evaluation" and math.isfinite(number(event.get("step")))]
    kept = _without_repeats(told)
    names = list(dict.fromkeys(name for row in kept for name in row if MEASURED.fullmatch(name)))
    caption = "1 is doing nothing; the lowest score is the best checkpoint"
    one = chart("score of the averages", {name: _series(kept, name) for name in names}, caption, marks, exact=True)
    return [one] if one else []


def _bad_recordings(events: list[dict[str, Any]]) -> list[str]:
    told = [event for event in events if event["event"] == "bad recording"]
    bad = {str(event.get("path"))[:200]: str(event.get("why"))[:200] for event in told}
    listed = [f"{path} was passed over: {why}" for path, why in list(bad.items())[:5]]
    rest = len(bad) - len(listed)
    return listed + ([f"{rest} more recordings were passed over; log.jsonl names them."] if rest else [])


def _seconds(rows: list[dict[str, Any]]) -> float:
    """Time spent by all attempts: the clock starts again with each."""
    total = before = 0.0
    for row in rows:
        if "event" in row:
            before = 0.0 if row["event"] in ("start", "resume") else before
            continue
        now = number(row.get("time"))
        if math.isfinite(now):
            total += now - before if now >= before else now
            before = now
    return total


def _last(points: Points) -> float:
    return next((value for _, value in reversed(points) if math.isfinite(value)), math.nan)


def _text(value: object, otherwise: str) -> str:
    return str(value)[:80] if isinstance(value, (str, int, float)) and str(value).strip() else otherwise
