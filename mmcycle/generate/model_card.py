"""README.md of a shared model: the model card of the Hugging Face Hub, told from what its run left on the disk.

What a run says of itself may come from a stranger, so every word of it is made harmless; paths stay at home.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmcycle import __version__
from mmcycle.config import Config, to_dict
from mmcycle.generate.data_card import page
from mmcycle.report.numbers import duration, short
from mmcycle.report.rows import listing, mapping, number, read_object, read_rows
from mmcycle.strict_yaml import format_yaml

PIPELINES = {                               # what the Hub calls those that it has a name for
    ("image", "image"): "image-to-image", ("audio", "audio"): "audio-to-audio", ("text", "image"): "text-to-image",
    ("image", "text"): "image-to-text", ("text", "audio"): "text-to-audio",
}
TAUGHT = {
    "cycle": "a cycle of two generators (CycleGAN, Zhu et al. 2017)",
    "nce": "one generator whose patches resemble their sources (CUT, Park et al. 2020)",
    "both": "a cycle of two generators (CycleGAN, Zhu et al. 2017) whose patches resemble their sources (CUT)",
    "none": "one generator with nothing but its head or known pairs to keep the content",
}
KNOWN = ("value", "low", "high", "error", "floor_error")        # of a score; all else is a known case beside it
MOST, LONGEST = 12, 600                     # sentences of one kind, and letters of one

TEXT = """\
# {name}

Recordings of **{a}** become recordings of **{b}**{back}. Learned from two folders by mmcycle {version},
with {taught}. Made to turn labelled data sets of {a} into labelled data sets of {b}.
A translation is derived from its source and is no recording of a real sensor.

## Use

```python
from pathlib import Path
import mmcycle

model = mmcycle.Translator.from_pretrained("USER/{name}")     # of the Hub, or this folder
recording = model.source.load(Path("recording{start}"))
model.target.save(model(recording), Path("translated{end}"))
```

A whole labelled data set, with this folder at hand (`hf download USER/{name} --local-dir {name}`):

```bash
mmcycle generate DATA OUT --with {stream}={name}
```

## Domains

| | name | recordings | sensor | settings |
|---|---|---|---|---|
{domains}

## Training

| | |
|---|---|
{training}

<details><summary>The whole config</summary>

```yaml
{config}```

</details>

## Measured

{measured}

## Limits and known failures

{limits}

## Provenance

`{model}` holds tensors and this config, no code. SHA-256 of the weights, as manifests of generated data sets name them:

| direction | SHA-256 |
|---|---|
{hashes}

{license}
"""


class Shared(NamedTuple):
    """What is shared: its config without the places of recordings, and the SHA-256 of the weights of each direction."""

    config: Config
    step: int
    sha256: Mapping[str, str]
    versions: object                        # library -> version, as the checkpoint says
    model: str                              # the name of its file
    license: str | None


class _Found(NamedTuple):
    """What an evaluation of one direction says; None where there is none of these weights."""

    direction: str
    own: dict[str, Any] | None
    gain: dict[str, Any] | None


def model_card(shared: Shared, run: Path) -> str:
    """The whole card. What was measured on other weights of the run is not told."""
    found = [_found(run, direction, sha256) for direction, sha256 in shared.sha256.items()]
    rows, _ = read_rows(run / "log.jsonl")
    events = [row for row in rows if "event" in row and number(row.get("step")) <= shared.step]
    config, plain = shared.config, to_dict(shared.config)
    starts = [one for one in events if one["event"] in ("start", "resume")]
    counts = mapping(starts[-1].get("recordings")) if starts else {}
    text = TEXT.format(
        name=config.name, a=config.a.name, b=config.b.name,
        version=_said(mapping(shared.versions).get("mmcycle", __version__)),
        back=", and back" if "ba" in shared.sha256 else "", taught=TAUGHT[config.loss.consistency],
        stream=_sensor(plain["a"]), start=config.a.modality.suffixes[0], end=config.b.modality.suffixes[0],
        domains="\n".join(_domain(key, plain[key], counts) for key in ("a", "b")),
        training="\n".join(f"| {what} | {value} |" for what, value in _training(shared, rows, starts)),
        config=format_yaml(plain), measured="\n\n".join(_measured(shared.config, found)),
        limits="\n".join(f"- {limit}" for limit in _limits(shared.config, found, events)), model=shared.model,
        hashes="\n".join(f"| {direction} | `{sha256}` |" for direction, sha256 in shared.sha256.items()),
        license="" if shared.license else "License: not stated. A model is derived from the recordings that it learned "
                                          "from: look up theirs, write it here and above.",
    )
    return page(_header(shared, plain, found), text)


def _found(run: Path, direction: str, sha256: str) -> _Found:
    own = read_object(run / "evaluation" / f"{direction}.json")
    gain = read_object(run / "evaluation" / f"downstream_{direction}.json")
    asked = [mapping(one).get("model_sha256") for one in listing(mapping(gain.get("about")).get("runs"))]
    return _Found(
        direction, own if mapping(own.get("about")).get("model_sha256") == sha256 else None,
        gain if sha256 in asked else None,
    )


# The header, which the Hub reads


def _header(shared: Shared, plain: dict[str, Any], found: Iterable[_Found]) -> dict[str, Any]:
    config, sensors = shared.config, [_sensor(plain[key]) for key in ("a", "b")]
    pipeline = PIPELINES.get((sensors[0], sensors[1]))
    tags = ["mmcycle", "unpaired-translation", "domain-adaptation", "data-augmentation", *sensors]
    tags += {"cycle": ["cyclegan"], "nce": ["cut"], "both": ["cyclegan", "cut"]}.get(config.loss.consistency, [])
    results = [result for one in found for result in _results(config, one, pipeline)]
    return {
        **({"license": shared.license} if shared.license else {}), "library_name": "mmcycle",
        **({"pipeline_tag": pipeline} if pipeline else {}), "tags": list(dict.fromkeys(tags)),
        **({"model-index": [{"name": config.name, "results": results}]} if results else {}),
    }


def _results(config: Config, found: _Found, pipeline: str | None) -> Iterator[dict[str, Any]]:
    way = _way(config, found.direction)
    data = {"name": way, "type": way.replace(" ", "-")}
    task = {"type": pipeline or "other", "name": "Unpaired translation"}
    scores = [(name, number(score["value"])) for name, score in _scores(found.own or {})]
    if scores:
        yield {"task": task, "dataset": data, "metrics": [_metric(name, value) for name, value in scores]}
    arms = [(f"{measure}, taught on {name}", mean) for name, measure, mean, _ in _arms(found.gain or {})]
    if arms:
        yield {"task": {"type": "other", "name": "Real recordings, by networks taught on translations"},
               "dataset": data, "metrics": [_metric(name, value) for name, value in arms]}


def _metric(name: str, value: float) -> dict[str, Any]:
    return {"type": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:100], "value": value, "name": name[:100]}


# The text


def _domain(key: str, plain: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    own = {name: value for name, value in plain.items() if name not in ("name", "root", "modality")}
    settings = format_yaml(own).rstrip("\n").replace("\n", "; ") if own else ""
    return f"| {key} | {plain['name']} | {_count(counts.get(key))} | {_said(plain['modality'])} | {_said(settings)} |"


def _training(shared: Shared, rows: list[dict[str, Any]], starts: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    model, train, run = shared.config.model, shared.config.train, shared.config.run
    yield "steps", f"{shared.step} of {train.steps}"
    yield "batch", f"{train.batch_size} of each domain, on each device"
    yield "generator", f"{model.generator}, width {model.width}; moving average of the weights"
    yield "seed", str(run.seed)
    yield "precision", run.precision
    last = starts[-1] if starts else {}
    if last:
        ranks = number(last.get("ranks"))
        yield "device", _said(last.get("device")) + (f", {ranks:.0f} of them" if ranks > 1 else "")
    paces = [number(row.get("seconds_per_step")) for row in rows if "losses" in row]
    if paces and paces[-1] > 0:
        yield "time", f"about {duration(paces[-1] * shared.step)} ({short(paces[-1])} s a step)"
    for name, version in (mapping(last.get("versions")) | mapping(shared.versions)).items():
        yield f"{_said(name)}", _said(version)


def _measured(config: Config, found: Iterable[_Found]) -> Iterator[str]:
    found = list(found)
    for one in found:
        if one.own is not None:
            yield f"### From {_way(config, one.direction)}"
            yield _told_of(one.own)
            yield "| measure | value | 95 % | known cases |\n|---|---|---|---|\n" + "\n".join(_score_rows(one.own))
            yield _good(one.own)
        if one.gain is not None:
            yield f"### Networks taught on translations from {_way(config, one.direction)}"
            yield _told_of_gain(one.gain)
            yield "| taught on | measure | mean | ± (95 %) |\n|---|---|---|---|\n" + "\n".join(
                f"| {name} | {measure} | {short(mean)} | {short(half)} |"
                for name, measure, mean, half in _arms(one.gain)
            )
            yield _good(one.gain)
    if all(one.own is None and one.gain is None for one in found):
        yield "Nothing was measured of these weights."


def _told_of(own: dict[str, Any]) -> str:
    """On what the numbers stand, and how to read them."""
    about = mapping(own.get("about"))
    told = [f"{_count(about.get('samples'))} samples, seed {_count(about.get('seed'))}. A number means little without "
            "the known cases beside it: floor is real recordings against real ones, untranslated the source as it is, "
            "shuffled a stranger's source or partner."]
    return " ".join(told + [f"Note: {_at_home(note, about)}." for note in listing(own.get("notes"))[:MOST]])


def _told_of_gain(gain: dict[str, Any]) -> str:
    about, worth = mapping(gain.get("about")), mapping(gain.get("gain"))
    seeds, steps = len(listing(about.get("seeds"))), _count(about.get("steps"))
    told = (f"The same network on each training set, {seeds} seeds of {steps} steps, asked on real labelled recordings "
            "that nothing was taught on.")
    if about.get("self_train") is True:
        told += " Every network also trained itself on the target's recordings, without their labels."
    closed = number(worth.get("gap_closed"))
    return told + (f" Of the way to the target's own labels {closed:.0%} is gone." if closed == closed else "")


def _good(told: Mapping[str, Any]) -> str:
    """What is well; what is not is a limit."""
    return "\n".join(f"- {_said(check.get('name'))}: {_said(check.get('told'))}"
                     for check in _checks(told) if check["level"] == "good")


def _score_rows(own: dict[str, Any]) -> Iterator[str]:
    for name, score in _scores(own):
        low, high = number(score.get("low")), number(score.get("high"))
        interval = f"{short(low)} to {short(high)}" if low == low else ""
        cases = [f"{_said(case)} {short(number(value))}" for case, value in score.items() if case not in KNOWN]
        yield f"| {name} | {short(number(score['value']))} | {interval} | {', '.join(cases)} |"


def _limits(config: Config, found: Iterable[_Found], events: Iterable[dict[str, Any]]) -> Iterator[str]:
    found = list(found)
    for one in found:
        for told in (one.own, one.gain):
            yield from (f"{_way(config, one.direction)}, {check['level']}: {_said(check.get('told'))}."
                        for check in _checks(told or {}) if check["level"] != "good")
    warnings = [event for event in events if event["event"] == "warning"]
    yield from (f"In training, step {_count(event.get('step'))}: {_said(event.get('name'))} (domain "
                f"{_said(event.get('domain'))}, {_said(event.get('measure'))} {short(number(event.get('value')))})."
                for event in warnings[:MOST])
    missing = [_way(config, one.direction) for one in found if one.own is None]
    if missing:
        yield (f"{' and '.join(missing)}: how realistic and how faithful it is was not measured on these weights; "
               "`mmcycle evaluate` does.")
    if config.a.modality.shape != config.b.modality.shape or type(config.a.modality) is not type(config.b.modality):
        yield "Across sensors only class labels stay true: `mmcycle generate --labels class`."
    yield ("It was taught on the recordings counted above and knows nothing else: on other places, sensors or weather "
           "its translations must be looked at and measured before anything is trained on them.")


def _scores(own: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """"realism: kernel distance" and its like, those that hold a number."""
    for name, score in own.items():
        if ": " in name and number(mapping(score).get("value")) == number(mapping(score).get("value")):
            yield _said(name), score


def _arms(gain: Mapping[str, Any]) -> Iterator[tuple[str, str, float, float]]:
    """Arm, measure, mean and half of the 95 % interval of each measure that was taken."""
    for arm in listing(gain.get("arms")):
        for measure, value in mapping(arm).items():
            mean = number(mapping(value).get("mean"))
            if mean == mean:
                half = number(mapping(value).get("half_width"))
                yield _said(mapping(arm).get("name")), _said(measure).replace("_", " "), mean, half


def _checks(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [check for check in listing(told.get("checks")) if mapping(check).get("level") in ("good", "weak", "bad")]


def _way(config: Config, direction: str) -> str:
    """"day to night"."""
    return " to ".join(getattr(config, letter).name for letter in direction)


def _sensor(plain: Mapping[str, Any]) -> str:
    """"image"; of "my_lab.radar:Radar" it is radar."""
    return plain["modality"].rpartition(":")[2].lower()


def _count(value: object) -> str:
    return str(value) if type(value) is int else "?"


def _at_home(note: object, about: Mapping[str, Any]) -> str:
    """A sentence without the folders of whoever measured it."""
    text = note if isinstance(note, str) else ""
    for key in ("run", "source", "real"):
        place = about.get(key)
        if isinstance(place, str) and len(place) > 1:
            text = text.replace(place, Path(place).name)
    return _said(text)


def _said(value: object) -> str:
    """Words that a run says of itself, on one line and without power over the page."""
    text = " ".join(str(value).split())[:LONGEST]
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")
    return re.sub(r"([\[\]!])", r"\\\1", text)
