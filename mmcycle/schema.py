"""The JSON schema of a config file, for editors that complete and check YAML."""
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from mmcycle.config import DOMAINS, SECTIONS, WORD
from mmcycle.modality import BUILTIN, find_modality


def config_schema() -> dict[str, Any]:
    """Every key with its type, range and default; the fields of the built-in modalities are in it."""
    kinds: dict[str, type] = {**SECTIONS, **{f"modality {name}": find_modality(name) for name in BUILTIN}}
    found, shared = TypeAdapter.json_schemas([(key, "validation", TypeAdapter(kind)) for key, kind in kinds.items()])
    definitions = shared.get("$defs", {})
    own = {name: _resolved(found[f"modality {name}", "validation"], definitions) for name in BUILTIN}
    word = {"type": "string", "pattern": f"^{WORD}$"}
    sections = {key: found[key, "validation"] for key in SECTIONS}
    domains = dict.fromkeys(DOMAINS, {"$ref": "#/$defs/domain"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mmcycle config",
        "type": "object",
        "properties": {"base": {"type": "string"}, "name": word, **domains, **sections},
        "anyOf": [{"required": ["base"]}, {"required": ["name", *DOMAINS]}],
        "additionalProperties": False,
        "$defs": {**definitions, "domain": _domain(word, own)},
    }


def _resolved(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _domain(word: dict[str, Any], own: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One alternative for each built-in modality, and one for those of other packages: their fields are not known."""
    shared = {"name": word, "root": {"type": ["string", "null"]}}
    known = [
        {
            "title": name,
            "properties": {**shared, "modality": {"const": name}, **schema.get("properties", {})},
            "additionalProperties": False,
        }
        for name, schema in own.items()
    ]
    other = {"properties": {**shared, "modality": {"type": "string", "not": {"enum": [*own]}}}}
    return {"type": "object", "anyOf": [*known, other]}
