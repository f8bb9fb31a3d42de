"""COCO: JSON files with `images` and `annotations` beside, or in a folder annotations/ beside, the pictures."""
import json
from pathlib import Path
from typing import Any, ClassVar

from mmcycle.data.layouts.folder import is_table
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, listed, only, peek, stem
from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError

HEAD = 2**16                                    # bytes looked at to tell a COCO file; real ones have 100 MB and more


class Coco(Layout):
    """annotations/instances_train.json with train/x.jpg or images/x.jpg; or train/_annotations.coco.json."""

    name: ClassVar[str] = "coco"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        found = [file for file in tree.ending((".json",)) if _is_candidate(file) and _looks_like(tree.root / file)]
        return f"{found[0]} lists images and annotations" if found else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        stream, _ = only(streams, self.name)
        tables = [file for file in tree.ending((".json",)) if _is_candidate(file) and _looks_like(tree.root / file)]
        if not tables:
            raise UserError(f"{tree.root}: the layout 'coco' needs a JSON file with images and annotations in it, "
                            f"in annotations/ beside the pictures or in their folder; found none")
        found: dict[str, Record] = {}
        for table in tables:
            for path in image_paths(tree, table, read_coco(tree.root / table)).values():
                found[path] = Record(key=stem(path), streams={stream: path})
        others = [file for file in tree.files if file not in tables and is_table(file)]
        return assemble(tree, self.name, streams, found.values(), [*tables, *others])


def read_coco(path: Path) -> dict[str, Any]:
    """The parsed file, checked to be COCO as far as it is used here."""
    try:
        value = json.loads(path.read_bytes())
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply to be COCO") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not isinstance(value.get("annotations", []), list):
        raise UserError(f"{path}: is not COCO: it must be an object with the lists `images` and `annotations`")
    for image in images:
        if not (isinstance(image, dict) and isinstance(image.get("file_name"), str)
                and isinstance(image.get("id"), int | str)):
            raise UserError(
                f"{path}: is not COCO: an image must have `id` and `file_name`, got {json.dumps(image)[:200]}"
            )
    for annotation in value.get("annotations", []):
        if not (isinstance(annotation, dict) and isinstance(annotation.get("image_id"), int | str)
                and isinstance(annotation.get("id", 0), int | str)
                and isinstance(annotation.get("file_name", ""), str)):
            raise UserError(
                f"{path}: is not COCO: an annotation must have `image_id` and a plain `id`, "
                f"got {json.dumps(annotation)[:200]}"
            )
    return value


def image_paths(tree: Tree, table: str, value: dict[str, Any]) -> dict[str, str]:
    """`file_name` -> path below the root; UserError names the first of those that are missing."""
    names = list(dict.fromkeys(image["file_name"] for image in value["images"]))
    best = max(bases(table), key=lambda base: sum(base + name in tree.known for name in names[:100]), default="")
    missing = [name for name in names if not _holds(tree, best, name)]
    if missing:
        raise UserError(f"{tree.root / table}: {len(missing)} of its {len(names)} images are missing, among them "
                        f"{listed(missing)}; looked in {', '.join(base or './' for base in bases(table))}")
    return {name: best + name for name in names}


def bases(table: str) -> list[str]:
    """Where the pictures of a table may lie: beside it, in images/, or in the folder of its split."""
    folder = table.rpartition("/")[0]
    above = folder.rpartition("/")[0]
    split = stem(table).rpartition("/")[2].rpartition("_")[2]
    tops = dict.fromkeys(f"{top}/" if top else "" for top in (folder, above, ""))
    return [base for top in tops for base in (top, f"{top}images/", f"{top}{split}/", f"{top}images/{split}/")]


def _holds(tree: Tree, base: str, name: str) -> bool:
    tree.holds(name)                            # refuses a name that leaves the root, from wherever it is looked at
    return base + name in tree.known


def _is_candidate(file: str) -> bool:
    """In the root, in annotations/, or named as Roboflow and COCO name them; not one of many labels beside pictures."""
    folder, _, name = file.rpartition("/")
    named = name.startswith(("_annotations.", "instances_"))
    return not folder or folder.rpartition("/")[2].lower() == "annotations" or named


def _looks_like(path: Path) -> bool:
    head, tail = peek(path, HEAD)
    ends = head + tail
    begins = head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
    return begins and b'"images"' in ends and (b'"annotations"' in ends or b'"categories"' in ends)
