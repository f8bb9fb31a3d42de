"""The mistakes in one config: where each stands, what was found, what is allowed; told all at once."""
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from mmcycle.errors import UserError
from mmcycle.strict_yaml import Place, is_plain_text, leaves

MOST_TOLD = 50

_WORDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a section of `key: value` lines",
    "dataclass_type": "must be a section of `key: value` lines",
    "path_type": "must be a path",
}
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")


class Mistakes:
    """Collects the mistakes in the values that came from `origin`; `origins` says where each key was written."""

    def __init__(self, origin: str, origins: Mapping[Place, str]) -> None:
        self.origin = origin
        self.origins = origins
        self.found: dict[Place, str] = {}

    def add(self, place: Place, text: str) -> None:
        """Note what is wrong at a key; the first that is said of a key is what counts."""
        self.found.setdefault(place, text)

    def tell(self) -> None:
        """Raise one UserError with a line for each, in the order in which the keys were written; nothing when none."""
        if not self.found:
            return
        order = {place: index for index, place in enumerate(self.origins)}
        places = sorted(self.found, key=lambda place: order.get(self._written(place), -1))
        head = f"{self.origin}: {len(places)} problem{'s' * (len(places) != 1)}"
        more = [f"  ... and {len(places) - MOST_TOLD} more"] * (len(places) > MOST_TOLD)
        raise UserError("\n".join([head, *(f"  {self._line(place)}" for place in places[:MOST_TOLD]), *more]))

    def check_leaves(self, values: dict[str, Any]) -> None:
        """Refuse what no key of a config may hold: numbers without a value, text that no file can hold."""
        for place, leaf in leaves(values):
            for inner in _flat(leaf):
                if isinstance(inner, float) and not math.isfinite(inner):
                    self.add(place, f"must be a finite number. Got {inner}.")
                elif isinstance(inner, int) and abs(inner) >= 2**63:
                    self.add(place, f"is too large a number. Got {short(inner)}.")
                elif isinstance(inner, str) and not is_plain_text(inner):
                    self.add(place, f"must be text without NUL and halves of surrogate pairs. Got {short(inner)}.")

    def fit(self, kind: type, value: Any, place: Place, also: Sequence[str] = ()) -> Any:
        """A mapping -> an instance of the dataclass `kind`, or None; `also` are keys worth suggesting besides its own.

        Checked as JSON, because strict JSON takes lists for tuples and text for paths, and converts nothing else.
        """
        if not isinstance(value, dict):
            self.add(place, f"must be a section of `key: value` lines. Got {short(value)}.")
            return None
        try:
            return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            self._explain(error, value, place, [*(entry.name for entry in dataclasses.fields(kind)), *also])
        except UserError as error:                                          # a modality's own __post_init__
            self.add(place, str(error))
        except (TypeError, ValueError, NameError, PydanticUserError) as error:     # an abstract one, odd annotations
            self.add(place, f"{kind.__name__} cannot be built: {str(error).splitlines()[0]}")
        return None

    def _explain(self, error: ValidationError, value: dict[str, Any], place: Place, known: Sequence[str]) -> None:
        """One mistake per key: what the members of a union say about it is joined."""
        allowed: dict[Place, list[str]] = {}
        got: dict[Place, str] = {}
        for entry in error.errors(include_url=False):
            missing = entry["type"] in _MISSING
            below = tuple(str(part) for part in entry["loc"]) if missing else _present(value, entry["loc"])
            if entry["type"] == "unexpected_keyword_argument":
                text = unknown_key(below[-1], known)
            else:
                text = "is missing." if missing else _in_words(entry)
                got[below] = "" if missing else f". Got {short(entry['input'])}."
            texts = allowed.setdefault(below, [])
            if text not in texts:
                texts.append(text)
        for below, texts in allowed.items():
            if any(len(other) > len(below) and other[: len(below)] == below for other in allowed):
                continue                        # another member of the union came further and says it better
            self.add((*place, *below), ", or ".join(texts) + got.get(below, ""))

    def _line(self, place: Place) -> str:
        key, text = ".".join(place)[:200], self.found[place]
        where = self.origins.get(self._written(place), "")
        if where.startswith("override "):
            same = where.removeprefix("override ").partition("=")[0].strip() == key
            return f"{where}: {text}" if same else f"{where}: {key}: {text}"
        return f"{where}  {key}: {text}" if where else f"{key}: {text}"

    def _written(self, place: Place) -> Place:
        """The longest part of a place that was written somewhere: a missing key stands where its section does."""
        return next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.origins), ())


def unknown_key(key: str, known: Sequence[str]) -> str:
    """What to say of a key that is not known: the nearest one, or all that are allowed."""
    close = nearest(key, known)
    return f"unknown key. Did you mean {close!r}?" if close else f"unknown key. Allowed: {', '.join(known)}."


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant."""
    return next(iter(get_close_matches(word[:100], known, n=1)), None)


def short(value: Any) -> str:
    """A value as Python writes it, cut to a length that fits a line."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return "a number of more than 60 digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _flat(value: Any) -> Iterator[Any]:
    """The single values in a list, however they are nested."""
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _flat(item)
    else:
        yield value


def _in_words(entry: Mapping[str, Any]) -> str:
    message = entry["msg"].removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")
    if entry["type"] in ("too_long", "too_short"):
        bound = {"too_long": "at most {max_length}", "too_short": "at least {min_length}"}[entry["type"]]
        return f"must have {bound.format_map(entry['ctx'])} items"
    return _WORDS.get(entry["type"], message)


def _present(value: Any, loc: Sequence[int | str]) -> Place:
    """pydantic's location without the names of union members, which are no keys."""
    place: list[str] = []
    for part in loc:
        listed = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if listed or (isinstance(value, dict) and part in value):
            place.append(str(part))
            value = value[part]
    return tuple(place)
