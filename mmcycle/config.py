"""One run, fully described: read strictly from YAML, with every mistake told at once, and written back."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from pydantic import TypeAdapter

from mmcycle.core.settings import STRICT, Descent, Networks, Objective
from mmcycle.errors import UserError
from mmcycle.files import write_text
from mmcycle.mistakes import Mistakes, nearest, short, unknown_key
from mmcycle.modality import RESERVED, Modality, find_modality, known_modalities, lies_below
from mmcycle.recipe import find_config
from mmcycle.strict_yaml import MAX_DEPTH, Place, format_yaml, leaves, parse_yaml, read_yaml


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One side of the translation. In YAML the modality's own fields stand beside its name."""

    name: str
    root: Path | None = None                    # folder of recordings, relative to where the command runs
    modality: Modality


@dataclass(frozen=True, kw_only=True)
class Data:
    """How recordings become batches."""

    __pydantic_config__: ClassVar = STRICT

    shared_crop: bool = False                               # both domains are cropped at the same place
    paired: bool = False                                    # equal names in a and b are true partners
    paired_fraction: Annotated[float, Ge(0), Le(1)] = 1.0   # of them the share that is known, chosen by run.seed
    pairs: Path | None = None                               # a table of partners in the place of equal names
    workers: Annotated[int, Ge(0)] = 2                      # processes that load ahead; the batches do not depend on it
    cache_mib: Annotated[int, Ge(0)] = 512                  # a domain that fits in this is decoded once
    on_error: Literal["stop", "skip"] = "stop"              # what a recording that cannot be read does


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how the run is computed, and what it leaves behind."""

    __pydantic_config__: ClassVar = STRICT

    seed: Annotated[int, Ge(0)] = 0
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Gt(0)] | Literal["auto"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False                                   # torch.compile: a slow start, faster steps after it
    log_every: Annotated[int, Gt(0)] = 50                   # steps between two rows of log.jsonl
    sample_every: Annotated[int, Gt(0)] = 1000              # steps between two pictures
    evaluate_every: Annotated[int, Ge(0)] = 1000            # steps between two scores, and one at the end; 0: never
    save_every: Annotated[int, Gt(0)] = 1000                # steps between two checkpoints
    save_minutes: Annotated[float, Gt(0)] = 5.0             # a checkpoint at least this often, whatever the steps
    keep: Annotated[int, Gt(0)] = 3                         # newest checkpoints that stay


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. `a` and `b` are the two domains; the other sections have defaults for everything."""

    name: str
    a: Domain
    b: Domain
    model: Networks = field(default_factory=Networks)
    loss: Objective = field(default_factory=Objective)
    train: Descent = field(default_factory=Descent)
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)


SECTIONS = {"model": Networks, "loss": Objective, "train": Descent, "data": Data, "run": Run}
DOMAINS = ("a", "b")
KEYS = ("name", *DOMAINS, *SECTIONS)
WORD = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}"


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A YAML file or a recipe's name, and overrides such as "train.steps=2000" -> Config.

    The file may build on another (`base: other.yaml`, relative to the file, or a recipe's name); sections are joined
    key by key. One UserError lists every mistake, with the line or the override in which it stands.
    """
    path = find_config(source)
    values, lines = read_yaml(path)
    origins = _places(lines, path)
    if "base" in values:
        values, origins = _on_base(values, origins, path)
    for override in overrides:
        _override(values, origins, override)
    return _checked(values, Mistakes(str(path), origins))


def from_dict(values: Any, origin: str = "config", *, run: Path | None = None) -> Config:
    """What `to_dict` gave -> Config, as strictly as from a file; `origin` names the source in errors.

    A `run` may come from a stranger: a modality that would be imported from below that folder is refused.
    """
    if not isinstance(values, dict) or not _shallow(values, MAX_DEPTH):
        raise UserError(f"{origin}: expected the sections of a config, nested at most {MAX_DEPTH} levels deep")
    try:
        plain = json.loads(json.dumps(values))
    except (TypeError, ValueError) as error:        # ValueError: a number of thousands of digits
        raise UserError(f"{origin}: holds what JSON cannot: {error}") from error
    if run is not None:
        _refuse_code_of(run, plain, origin)
    return _checked(plain, Mistakes(origin, {}))


def modality_from(name: str, fields: Sequence[str] = ()) -> Modality:
    """A modality's name and fields such as "size=64" -> the modality; UserError lists every mistake."""
    values: dict[str, Any] = {"modality": name}
    origins: dict[Place, str] = {}
    for text in fields:
        _override(values, origins, text)
    mistakes = Mistakes(name, origins)
    found = _modality(values, (), mistakes)
    mistakes.tell()
    return found


def to_dict(config: Config) -> dict[str, Any]:
    """Plain values, every default written out; `from_dict` reads them back."""
    domains = {key: _domain_to_dict(getattr(config, key)) for key in DOMAINS}
    sections = {key: _plain(getattr(config, key)) for key in SECTIONS}
    return {"name": config.name, **domains, **sections}


def save_config(config: Config, path: Path) -> None:
    """Write the whole config, defaults included, as YAML that `load_config` reads back as an equal config."""
    write_text(path, format_yaml(to_dict(config)))


def differing_keys(old: Config, new: Config) -> list[tuple[str, Any, Any]]:
    """(full key, old value, new value) wherever they are not the same; None also stands for a key that is not there."""
    before, after = dict(leaves(to_dict(old))), dict(leaves(to_dict(new)))
    places = dict.fromkeys([*before, *after])
    pairs = [(".".join(place), before.get(place), after.get(place)) for place in places]
    return [(key, was, now) for key, was, now in pairs if was != now]


def _refuse_code_of(run: Path, values: dict[str, Any], origin: str) -> None:
    for key in DOMAINS:
        domain = values.get(key)
        name = domain.get("modality") if isinstance(domain, dict) else None
        if isinstance(name, str) and ":" in name and lies_below(run, name):
            raise UserError(f"{origin}: {key}.modality: {short(name)} lies in the run itself, and a run must not bring "
                            "code. If you trust it, install it as a package or keep it outside of the run.")


# Joining what was written


def _on_base(values: dict[str, Any], origins: dict[Place, str], path: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    name = values["base"]
    if not isinstance(name, str) or not name:
        where = origins[("base",)]
        raise UserError(f"{where}  base: must be the path of a YAML file or a recipe's name. Got {short(name)}.")
    base = find_config(name, beside=path.parent)
    below, lines = read_yaml(base)
    if "base" in below:
        line = lines[("base",)]
        raise UserError(f"{base}:{line}  base: a base must not have a base of its own, and {path} builds on it.")
    above = {key: value for key, value in values.items() if key != "base"}
    return _merged(below, above), _places(lines, base) | origins


def _places(lines: Mapping[Place, int], path: Path) -> dict[Place, str]:
    return {place: f"{path.name}:{line}" for place, line in lines.items() if place}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _merged(joined[key], value) if both else value
    return joined


def _override(values: dict[str, Any], origins: dict[Place, str], override: str) -> None:
    """Set the value at a dotted key; what was below it is replaced."""
    label = f"override {' '.join(override.split())[:200]}"
    key, equals, text = override.partition("=")
    place = tuple(part.strip() for part in key.split("."))
    if not equals or not all(place) or len(place) > MAX_DEPTH:
        raise UserError(f"{label}: expected key=value with dots between the keys, such as train.steps=2000")
    value, lines = parse_yaml(text, label)
    section = values
    for depth, part in enumerate(place[:-1], start=1):
        if section.get(part) is None:
            section[part] = {}
            origins.setdefault(place[:depth], label)
        section = section[part]
        if not isinstance(section, dict):
            raise UserError(f"{label}: {'.'.join(place[:depth])} is {short(section)}, which has no keys below it")
    section[place[-1]] = value
    for stale in [known for known in origins if known[: len(place)] == place]:
        del origins[stale]
    origins |= {(*place, *below): label for below in [(), *lines]}


# Checking


def _checked(values: dict[str, Any], mistakes: Mistakes) -> Config:
    mistakes.check_leaves(values)
    for key in values:
        if key not in KEYS:
            mistakes.add((key,), unknown_key(str(key), KEYS))
    given = {key: values[key] for key in KEYS if values.get(key) is not None}       # an empty section is all defaults
    for key in ("name", *DOMAINS):
        if key not in given:
            mistakes.add((key,), "is missing.")
    name = _word(given.get("name"), ("name",), mistakes)
    domains = {key: _domain(given[key], (key,), mistakes) for key in DOMAINS if key in given}
    sections = {key: mistakes.fit(kind, given.get(key, {}), (key,)) for key, kind in SECTIONS.items()}
    mistakes.tell()
    config = Config(name=name, **domains, **sections)
    for place, text in _contradictions(config):
        mistakes.add(place, text)
    mistakes.tell()
    return config


def _word(value: Any, place: Place, mistakes: Mistakes) -> str:
    """Names become parts of file names."""
    if value is not None and not (isinstance(value, str) and re.fullmatch(WORD, value)):
        allowed = "up to 100 letters, digits and _ . + -, a letter or digit first"
        mistakes.add(place, f"must be {allowed}. Got {short(value)}.")
    return value


def _domain(value: Any, place: Place, mistakes: Mistakes) -> Domain | None:
    if not isinstance(value, dict):
        mistakes.add(place, f"must be a section with name, root and modality. Got {short(value)}.")
        return None
    for key in ("name", "modality"):
        if value.get(key) is None:
            mistakes.add((*place, key), "is missing.")
    root = value.get("root")
    if root is not None and not (isinstance(root, str) and root):
        mistakes.add((*place, "root"), f"must be the path of a folder. Got {short(root)}.")
        root = None
    name = _word(value.get("name"), (*place, "name"), mistakes)
    return Domain(name=name, root=None if root is None else Path(root), modality=_modality(value, place, mistakes))


def _modality(value: dict[str, Any], place: Place, mistakes: Mistakes) -> Modality | None:
    named = value.get("modality")
    own = {key: item for key, item in value.items() if key not in RESERVED}
    if named is None:
        for key in own:                         # perhaps the missing key, misspelt; other keys cannot be judged yet
            if nearest(key, RESERVED):
                mistakes.add((*place, key), unknown_key(key, RESERVED))
        return None
    if not isinstance(named, str):
        allowed = "a name or an import path such as 'my_lab.radar:Radar'"
        mistakes.add((*place, "modality"), f"must be {allowed}. Got {short(named)}.")
        return None
    try:
        kind = find_modality(named)
    except UserError as error:
        mistakes.add((*place, "modality"), str(error))
        return None
    return mistakes.fit(kind, own, place, also=RESERVED)


def _contradictions(config: Config) -> Iterator[tuple[Place, str]]:
    """Choices that are fine alone and mean nothing together."""
    loss, train = config.loss, config.train
    if config.a.name == config.b.name:
        yield ("b", "name"), f"a.name and b.name are both {config.b.name!r}; the two domains need different names."
    if loss.consistency in ("cycle", "both") and loss.cycle == 0:
        yield ("loss", "cycle"), f"is 0, but loss.consistency is {loss.consistency!r}, which needs loss.cycle above 0."
    if loss.consistency in ("nce", "both") and loss.nce == 0:
        yield ("loss", "nce"), f"is 0, but loss.consistency is {loss.consistency!r}, which needs loss.nce above 0."
    if loss.adversarial == "wgan-gp" and loss.gradient_penalty == 0:
        yield ("loss", "gradient_penalty"), "is 0, but loss.adversarial is 'wgan-gp', which needs it above 0."
    if loss.task > 0 and loss.task_network is None:
        yield ("loss", "task"), "needs loss.task_network, such as 'my_lab.nets:segmenter'."
    if loss.paired == 0 and by_partners_alone(config):
        yield ("loss", "consistency"), ("is 'none', so partners alone tell what to keep: it needs loss.paired above 0, "
                                        "or a b that keeps all that a shows (lidar with change: returns, audio with "
                                        "change: noise and no gain_db).")
    elif config.data.paired_fraction == 0 and by_partners_alone(config):
        yield ("data", "paired_fraction"), ("is 0, but loss.consistency is 'none': partners alone would tell what to "
                                            "keep.")
    if loss.paired > 0 and not config.data.paired:
        yield ("loss", "paired"), "needs data.paired: true, so that batches hold true partners."
    if config.model.discriminator_sees == "pair" and not (loss.paired > 0 and by_partners_alone(config)):
        yield ("model", "discriminator_sees"), ("is 'pair', so every source needs its true partner: set "
                                                "loss.consistency: none and loss.paired above 0, and take a b without a head "
                                                "that keeps what a shows (change: any).")
    if config.model.discriminator_sees == "pair" and train.replay > 0:
        yield ("train", "replay"), (f"is {train.replay}, but model.discriminator_sees is 'pair', and a remembered "
                                    "translation has lost its source: set it to 0.")
    if config.data.pairs is not None and not config.data.paired:
        yield ("data", "pairs"), "needs data.paired: true, so that batches hold the pairs of the table."
    if config.data.paired_fraction < 1 and not config.data.paired:
        yield ("data", "paired_fraction"), "needs data.paired: true, so that equal names are partners."
    if train.warm_up >= train.steps:
        yield ("train", "warm_up"), f"is {train.warm_up}, which leaves no step after it: train.steps is {train.steps}."


def by_partners_alone(config: Config) -> bool:
    """Whether nothing but true partners tells what a translation keeps, so that nothing else can be learned from."""
    return config.loss.consistency == "none" and not _kept(config)


def _kept(config: Config) -> bool:
    """Whether the head of b keeps what a recording shows, whatever is learned: see `Head.keeps`."""
    try:
        head = config.b.modality.head(config.a.modality)
    except ValueError:                  # they do not go together at all, which is told when the networks are built
        return True
    return head is not None and head.keeps


# Plain values


def _domain_to_dict(domain: Domain) -> dict[str, Any]:
    kind = type(domain.modality)
    target = f"{kind.__module__}:{kind.__qualname__}"
    name = next((name for name, place in known_modalities().items() if place == target), target)
    root = None if domain.root is None else str(domain.root)
    return {"name": domain.name, "root": root, "modality": name, **_plain(domain.modality)}


def _plain(value: Any) -> dict[str, Any]:
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def _shallow(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(item, levels - 1) for item in inner)
