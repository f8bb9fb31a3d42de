"""A config fitted to the recordings it names: what they tell about their sensors, in words and in a file."""
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmcycle.config import DOMAINS, Config, differing_keys, load_config, to_dict
from mmcycle.errors import UserError
from mmcycle.files import write_atomic
from mmcycle.modality import Fit
from mmcycle.recipe import find_config, recipe_names
from mmcycle.strict_yaml import format_yaml, read_yaml
from mmcycle.train.trainer import open_domain

MOST = 100                                  # recordings of a domain that are read, spread evenly over all of them
SUFFIXES = (".yaml", ".yml")


def fit(
    source: str, out: Path, overrides: Sequence[str] = (), *, measure: bool = False, force: bool = False
) -> list[str]:
    """Write `out`: the config, its overrides, and the fields that the recordings of a and b tell. Lines for a person.

    measure: fields in which the config trusts a data sheet are measured too. The file builds on the config by name.
    """
    _check_place(source, out, force)
    given = load_config(source, overrides)
    for key in DOMAINS:
        root = open_domain(given, key).root
        if out.resolve().is_relative_to(root.resolve()):
            raise UserError(f"{out} would lie among the recordings of {key}.root; choose a place outside of {root}")
    fitted, lines = given, dict.fromkeys(DOMAINS, ())
    for key, other in (("b", "a"), ("a", "b")):     # b first: what must be equal is as the domain asked for has it
        fitted, lines[key] = _fitted(fitted, key, other, measure)
    write_atomic(out, lambda temporary: _write(temporary, source, out, fitted))
    return [*lines["a"], *lines["b"], f"{out}: next: mmcycle train {out} --out runs/{out.stem}"]


def _check_place(source: str, out: Path, force: bool) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"{out}: a config is a YAML file; give it a name that ends with {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the YAML file to write")
    if out.exists() and out.resolve() == find_config(source).resolve():
        raise UserError(f"{out} is the config that is fitted; choose another name, the new file builds on it")
    if out.exists() and not force:
        raise UserError(f"{out} exists already; choose another name, or say --force to replace it")


def _fitted(config: Config, key: str, other: str, measure: bool) -> tuple[Config, list[str]]:
    domain, partner = getattr(config, key), getattr(config, other)
    files = open_domain(config, key)
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), MOST)).round().astype(int))
    try:
        found = domain.modality.fit([files.path(int(index)) for index in chosen], partner.modality, measure)
    except UserError as error:
        raise UserError(f"{key} {domain.name}: {error}") from error
    read = f"{len(chosen)} of {len(files)} recordings in {files.root}"
    return _with(config, key, other, found), [f"{key} {domain.name}: {read}", *(f"  {line}" for line in found.told)]


def _with(config: Config, key: str, other: str, found: Fit) -> Config:
    changed = {}
    for side, fields in ((key, found.own), (other, found.other)):
        domain = getattr(config, side)
        changed[side] = replace(domain, modality=replace(domain.modality, **fields))
    return replace(config, **changed)


def _write(path: Path, source: str, out: Path, fitted: Config) -> None:
    """Only what differs from the config it builds on, where that says the same; else all of it."""
    head = f"# Fitted to the recordings of a and b. Run: mmcycle train {out} --out runs/{out.stem}\n"
    path.write_text(head + format_yaml(_on_base(source, out, fitted)), encoding="utf-8")
    if _loaded(path) != fitted:
        path.write_text(head + format_yaml(to_dict(fitted)), encoding="utf-8")
        load_config(path)


def _on_base(source: str, out: Path, fitted: Config) -> dict[str, Any]:
    base, below = _base(source, out)
    whole = to_dict(fitted)
    if below is None:                       # it is not whole without the overrides
        return whole
    values: dict[str, Any] = {"base": base}
    for section, *field in dict.fromkeys(tuple(key.split(".")[:2]) for key, _, _ in differing_keys(below, fitted)):
        if field:                           # as a whole: runs of ego, the fields of a sensor
            values.setdefault(section, {})[field[0]] = whole[section][field[0]]
        else:
            values[section] = whole[section]
    return values


def _base(source: str, out: Path) -> tuple[str, Config | None]:
    """What the new file can build on, as named in it: the config, or what that builds on, for a base has no base."""
    path = find_config(source)
    named = read_yaml(path)[0].get("base")
    if named is not None:
        source, path = named, find_config(named, beside=path.parent)
    if source in recipe_names():
        return source, _loaded(source)
    place = Path(os.path.relpath(path.resolve(), out.parent.resolve())).as_posix()
    return (place if "/" in place else f"./{place}"), _loaded(path)


def _loaded(source: str | Path) -> Config | None:
    try:
        return load_config(source)
    except UserError:
        return None
