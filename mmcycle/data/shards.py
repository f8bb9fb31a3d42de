"""Shards are files that hold many samples: WebDataset's tars, and the tables of a Hugging Face data set."""
from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mmcycle.data import hf_files
from mmcycle.data.layouts.classes import SPLIT
from mmcycle.data.tar_members import members
from mmcycle.errors import UserError
from mmcycle.files import walk

TAR = ".tar"
SUFFIXES = (TAR, *hf_files.SUFFIXES)
MARK = "!"                              # between a shard and what is in it: "train-000000.tar!7.png"
BESIDE = (".json", ".jsonl", ".md", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".html", ".lock", ".idx", "")


def shards_of(source: Path) -> list[Path]:
    """The shards of a folder that holds nothing else, sorted; none where it is any other folder.

    Tables and notes may lie beside them. UserError where tars and tables are mixed, which nobody means.
    """
    found = []
    for path in walk(source):
        if path.suffix.lower() in SUFFIXES:
            found.append(path)
        elif path.suffix.lower() not in BESIDE:
            return []
    if len({path.suffix.lower() == TAR for path in found}) == 2:
        raise UserError(f"{source}: holds tars and tables of a Hugging Face data set; name the folder of one of them")
    return found


def splits_of(source: Path, shards: list[Path]) -> dict[Path, str]:
    """Shard -> its split: the start of its name ("train-000000.tar"), else its folder; nothing where none is told."""
    heads = {path: re.sub(r"([-_.]?\d+)?(-of-\d+)?$", "", path.name.removesuffix(path.suffix)) for path in shards}
    folders = {path: path.parent.name if path.parent != source else "" for path in shards}
    every = len({*heads.values()}) > 1 and all(re.fullmatch(r"\w+", head) for head in heads.values())
    return {
        path: heads[path] if every or SPLIT.fullmatch(heads[path]) else
        folders[path] if SPLIT.fullmatch(folders[path]) else ""
        for path in shards
    }


def divide(name: str) -> tuple[str, str]:
    """"train-000000.tar!7.png" -> ("train-000000.tar", "7.png"); a path of a plain file has no second part."""
    for suffix in SUFFIXES:
        shard, mark, inner = name.partition(suffix + MARK)
        if mark:
            return shard + suffix, inner
    return name, ""


def hashes(shard: Path) -> Iterator[tuple[str, str]]:
    """(what is in it, SHA-256 of its bytes): members of a tar, "ROW/COLUMN" of a table where the cell is not empty."""
    if shard.suffix.lower() == TAR:
        try:
            for member in members(shard):
                yield member.name, hashlib.file_digest(member.content, "sha256").hexdigest()
        except tarfile.TarError as error:
            raise UserError(f"{shard}: cannot be read as a tar file: {error}") from error
        return
    for number, row in enumerate(hf_files.rows(shard)):
        for column, value in row.items():
            content = hf_files.content(value)
            if content is not None:
                yield f"{number}/{column}", hashlib.sha256(content).hexdigest()
