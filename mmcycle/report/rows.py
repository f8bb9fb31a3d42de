"""Rows of JSON that a run or a generation left on disk, read so that a broken line costs only itself."""
import json
import math
from pathlib import Path
from typing import Any

LONGEST = 1 << 20                               # bytes of one line; a longer one is not ours
LARGEST = 3.4e38                                # what a float32 can hold: no loss is larger


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a .jsonl file and what is wrong with it; a torn last line is what a kill leaves, and passed over."""
    rows, broken = [], []
    if not path.is_file():
        return [], []
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), start=1):
            row = _parsed(line)
            if isinstance(row, dict):
                rows.append(row)
            elif line.endswith(b"\n") and line.strip():
                broken.append(number)
    if not broken:
        return rows, []
    first = ", ".join(map(str, broken[:5])) + (" ..." if len(broken) > 5 else "")
    return rows, [f"{path.name}: {len(broken)} line(s) are not JSON objects and were passed over (line {first})."]


def read_object(path: Path, largest: int = LONGEST) -> dict[str, Any]:
    """The object in a .json file, or an empty one when it is absent, too large or broken."""
    if not path.is_file() or path.stat().st_size > largest:
        return {}
    found = _parsed(path.read_bytes())
    return found if isinstance(found, dict) else {}


def number(value: object) -> float:
    """A number that float32 can hold, as it is; everything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        return math.nan
    return float(value)


def mapping(value: object) -> dict[str, Any]:
    """A mapping as it is, everything else as an empty one: {row of a stranger}.get never fails."""
    return value if isinstance(value, dict) else {}


def listing(value: object) -> list[Any]:
    """A list as it is, everything else as an empty one."""
    return value if isinstance(value, list) else []


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
