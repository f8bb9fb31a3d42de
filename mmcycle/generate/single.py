"""Single recordings: files and folders in, files of the same names out."""
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmcycle.errors import UserError
from mmcycle.files import walk, write_atomic
from mmcycle.generate.translator import Translator


def translate_files(translator: Translator, inputs: Sequence[Path], out: Path, strength: float = 1.0) -> Iterator[Path]:
    """Translate every recording, one at a time, and yield each path written; nothing that exists is overwritten."""
    targets = _targets(translator, inputs, out)
    for source, target in targets.items():
        translated = translator(translator.source.load(source), strength)
        write_atomic(target, lambda temporary, raw=translated: translator.target.save(raw, temporary))
        yield target


def _targets(translator: Translator, inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Source file -> target file; folders keep their tree below `out`."""
    suffixes, targets = translator.source.suffixes, {}
    for path in inputs:
        if path.is_dir():
            if out.resolve().is_relative_to(path.resolve()):
                why = "whose recordings are read; choose another --out, the source is never changed"
                raise UserError(f"{out} lies inside {path}, {why}")
            found = {file: file.relative_to(path) for file in walk(path) if file.suffix.lower() in suffixes}
            if not found:
                raise UserError(f"{path} holds no recordings; allowed are {' '.join(suffixes)}")
        else:
            found = {path: Path(path.name)}
        for file, name in found.items():
            suffix = name.suffix if name.suffix.lower() in translator.target.suffixes else translator.target.suffixes[0]
            targets[file] = (out / name).with_suffix(suffix)
    for source, target in targets.items():
        if target.exists():
            raise UserError(f"{target} exists already, {source} would overwrite it; choose another --out")
    if len(set(targets.values())) < len(targets):
        raise UserError("two inputs have the same name; translate their folders instead, or one at a time")
    return targets
