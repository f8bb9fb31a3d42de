"""The safe and unsurprising part of YAML: text -> plain values with their line numbers, and back.

Refused: tags, anchors, aliases, merge keys, a second document, duplicate keys, keys that are not text, deep nesting and
large files. As YAML 1.2 has it, only `true` and `false` are booleans and 5e-4 is a number; dates stay text.
"""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mmcycle.errors import UserError

MAX_BYTES = 64 << 10                        # 50 times the longest config, and parsed in half a second
MAX_DEPTH = 20

Place = tuple[str, ...]                     # the keys that lead to a value; the items of a list count "0", "1" ...

_DECIMAL = r"[-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9]*|[0-9][0-9_]*(?=[eE]))"
_SCALARS = [
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    ("tag:yaml.org,2002:float", rf"{_DECIMAL}([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
]


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    """A file -> its mapping, and the line of every key in it."""
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
            raise UserError(f"{path} {found}; a YAML file was expected")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)[:200]!r} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 10} KiB; that is not a config")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); a YAML file was expected") from error
    values, lines = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        found = "nothing" if values is None else "a list" if isinstance(values, list) else "a single value"
        raise UserError(f"{path}: expected `key: value` lines at the top level, found {found}")
    return values, lines


def parse_yaml(text: str, origin: str) -> tuple[Any, dict[Place, int]]:
    """One document -> its value, and the line of every key in it; `origin` names the text in errors."""
    lines: dict[Place, int] = {}
    try:
        node = _Loader(text).get_single_node()
        value = None if node is None else _value(node, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark and "\n" in text else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{origin}{where}: {problem[:300]}") from error
    except (yaml.YAMLError, ValueError) as error:       # ValueError: an escape such as "\U7fffffff"
        raise UserError(f"{origin}: not YAML text: {str(error).splitlines()[0]}") from error
    return value, lines


def format_yaml(values: dict[str, Any]) -> str:
    """Plain values -> text that `parse_yaml` reads back as the same values; a list stays on one line."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)


def is_plain_text(text: str) -> bool:
    """No NUL, which no path can hold, and no half of a surrogate pair, which no file can hold."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Everything that is not a section, with the keys that lead to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, str(key)))
    else:
        yield place, value


class _Loader(yaml.SafeLoader):
    """Composes nodes only; values are made by `_value`, so no constructor of PyYAML ever runs."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refuse("anchors and aliases (& and *) are not allowed: write the value out", event)
        if getattr(event, "tag", None) is not None:
            raise _refuse(f"tags are not allowed, found {event.tag[:60]!r}: write a plain value", event)
        if self.depth >= MAX_DEPTH:
            raise _refuse(f"nested more than {MAX_DEPTH} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Knows the same scalars as `_Loader`, so that text which looks like a number is quoted."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.Node:
        odd = None if data.isprintable() else '"'       # PyYAML's other styles lose control characters such as U+0085
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=odd)

    def represent_list(self, data: list[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.add_representer(list, _Dumper.represent_list)
for _class in (_Loader, _Dumper):
    for _tag, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _value(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, str(index)), lines) for index, item in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            found = repr(key.value)[:60] if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
            raise _refuse(f"a key must be text, found {found}", key)
        if key.value == "<<":
            raise _refuse("merge keys (<<) are not allowed: use `base: other.yaml`", key)
        if key.value in mapping:
            first = lines[(*place, key.value)]
            raise _refuse(f"the key {key.value[:60]!r} is given twice, first in line {first}", key)
        lines[(*place, key.value)] = key.start_mark.line + 1
        mapping[key.value] = _value(item, (*place, key.value), lines)
    return mapping


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        if len(text) > 40:
            raise _refuse(f"the number {text[:20]}... is too long", node)
        return int(text.replace("_", ""))
    if kind == "float":
        return _number(text.replace("_", "").lower())
    if not is_plain_text(text):
        raise _refuse("text must not contain NUL or half a surrogate pair", node)
    return text


def _number(text: str) -> int | float:
    """2e5 is the whole number 200000, as a person who counts steps means it; 2.0e5 is a float."""
    number = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    whole = "." not in text and abs(number) < 2**53 and number == int(number)
    return int(number) if whole else number


def _refuse(problem: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)
