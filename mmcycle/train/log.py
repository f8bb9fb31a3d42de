"""log.jsonl: one row for each interval and for each event of a run, and the line a person sees."""
import json
import math
import os
from pathlib import Path
from typing import Any

from mmcycle.errors import MmcycleError
from mmcycle.files import write_text


class Log:
    """An append-only file of JSON rows; a row that was torn by a kill is dropped when the run resumes."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; a number that is not finite is written as null, because JSON knows no other word for it."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(row), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MmcycleError(f"{self.path}: could not be written: {error.strerror or error}") from error

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return [row for row in rows if isinstance(row, dict)]

    def rewind(self, step: int) -> None:
        """Forget the rows after `step`: the run goes on from there."""
        kept = [row for row in self.rows() if row.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
