"""README.md of a packed data set: the data card that `datasets.load_dataset(OUT)` reads and its user completes."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from mmcycle import files
from mmcycle.generate.samples import Contents
from mmcycle.strict_yaml import format_yaml

TEXT = """\
# {title}

Translated recordings: made by mmcycle {version} with `generate`, from labelled recordings of another domain.
They are not recordings of real sensors; labels are those of the source.

| split | samples |
|---|---|
{splits}

{classes}

| stream | model (SHA-256 of its weights) | direction |
|---|---|---|
{models}

Seed and strength of every sample, the file that it was made from and the SHA-256 of both are in {where};
`manifest.jsonl` lists the same, and `mmcycle verify` checks it.

## To be completed

License: unknown. A translation is derived from its source: look up the source's license, write it here and above.
"""


def write(path: Path, form: ModuleType, contents: Contents) -> None:
    """Write the card atomically; what a person added to an older one is lost, so it is written once."""
    header = {
        "license": "unknown",
        "configs": [{"config_name": "default", "data_files": [
            {"split": split, "path": form.PATHS.format(split=split)} for split in contents.splits
        ]}],
    }
    features = form.features(contents)
    if features:
        header["dataset_info"] = {"features": features}
    files.write_text(path, page(header, _text(form, contents)))


def page(header: dict[str, Any], text: str) -> str:
    """A card as the Hub reads it: YAML between dashes, then Markdown."""
    return f"---\n{format_yaml(header)}---\n{text}"


def _text(form: ModuleType, contents: Contents) -> str:
    counts = Counter(sample.split for sample in contents.samples)
    models = {
        (stream, model.sha256, model.direction)
        for sample in contents.samples for stream, model in sample.row.model.items()
    }
    return TEXT.format(
        title="A translated data set",
        version=next((sample.row.versions.get("mmcycle", "") for sample in contents.samples), ""),
        splits="\n".join(f"| {split} | {counts[split]} |" for split in contents.splits),
        classes=_classes(contents),
        models="\n".join(f"| {stream} | `{sha}` | {direction} |" for stream, sha, direction in sorted(models)),
        where=form.ABOUT_IN,
    )


def _classes(contents: Contents) -> str:
    told = [sample for sample in contents.samples if "class" in sample.tags]
    numbers = {contents.class_number(sample): sample.tags["class"] for sample in told}
    if not numbers:
        return "The source told no classes."
    return "Classes: " + ", ".join(f"{number} {name}" for number, name in sorted(numbers.items())) + "."
