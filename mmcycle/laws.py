"""The laws that every modality keeps: functions that return "", or a sentence that tells its author what to do."""
from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from mmcycle.core.settings import Networks
from mmcycle.errors import RecordingError
from mmcycle.modality import Modality

SMALL = Networks(width=4, blocks=1, discriminator_width=4, discriminator_layers=1)
ROUNDING = 1e-4                                     # share by which a batch and its members may differ


@dataclass(frozen=True)
class Case:
    """One sample under examination."""

    modality: Modality
    raw: Any
    suffix: str
    folder: Path                                    # empty, its own
    tolerance: float
    distance: Callable[[Any, Any], float] | None

    def tensor(self) -> Tensor:
        return self.modality.to_tensor(self.raw)[0]

    def apart(self, raw: Any) -> float:
        """How far a recording is from the sample: the caller's distance, else the mean |difference| of the tensors."""
        if self.distance is not None:
            return self.distance(self.raw, raw)
        x, y = self.tensor(), self.modality.to_tensor(raw)[0]
        return float((x - y).abs().mean()) if x.shape == y.shape else float("inf")


def _suffixes(modality: Modality) -> str:
    wrong = [s for s in modality.suffixes if not (s.startswith(".") and s == s.lower())]
    if not modality.suffixes or isinstance(modality.suffixes, str):
        return "suffixes must be a tuple of the files it opens, such as ('.bin',)"
    return f"{wrong[0]!r} must begin with a dot and be lower case" if wrong else ""


def _shape(modality: Modality) -> str:
    shape = modality.shape
    good = isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    return "" if good else f"shape is {shape!r}; it must be three positive whole numbers (channels, height, width)"


def _fields(modality: Modality) -> str:
    written = json.loads(json.dumps(dataclasses.asdict(modality)))
    read = TypeAdapter(type(modality)).validate_python(written)
    if read == modality:
        return ""
    return f"read back from a config it is {read!r}, not {modality!r}; give every setting a field"


def _travels(modality: Modality) -> str:
    there = _travelled(modality)
    if there != modality or hash(there) != hash(modality):
        return "the copy that arrives is not equal; let the fields be all there is: numbers, strings, tuples"
    return ""


def _is_tensor(case: Case) -> str:
    x, channels = case.tensor(), case.modality.shape[0]
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        return f"to_tensor gives {getattr(x, 'dtype', type(x).__name__)}; return x.float()"
    if x.ndim != 3 or x.shape[0] != channels or 0 in x.shape:
        return f"to_tensor gives {tuple(x.shape)}; shape says ({channels}, H', W'), without a batch dimension"
    return ""


def _in_range(case: Case) -> str:
    x = case.tensor()
    if not x.isfinite().all():
        return (
            "to_tensor gives NaN or infinity; refuse such recordings in load, "
            "or fill them and mark them in a channel"
        )
    low, high = float(x.min()), float(x.max())
    if -1 <= low and high <= 1:
        return ""
    return f"to_tensor gives {low:g} to {high:g}; scale by the sensor's own limits and clamp"


def _repeats(case: Case) -> str:
    if torch.equal(case.tensor(), case.tensor()):
        return ""
    return "to_tensor gives two answers for one recording; draw nothing at random in it"


def _equal_modalities(case: Case) -> str:
    same = torch.equal(dataclasses.replace(case.modality).to_tensor(case.raw)[0], case.tensor())
    return "" if same else "a copy with the same fields gives another tensor; keep no state outside the fields"


def _untouched(case: Case) -> str:
    before = [np.array(array) for array in _arrays(case.raw)]
    x, context = case.modality.to_tensor(case.raw)
    if not all(np.array_equal(old, np.asarray(new)) for old, new in zip(before, _arrays(case.raw))):
        return "to_tensor changes the recording it is given; work on a copy"
    kept = x.clone()
    case.modality.from_tensor(x, context)
    return "" if torch.equal(x, kept) else "from_tensor changes the tensor it is given; work on x.clone()"


def _context_travels(case: Case) -> str:
    x, context = case.modality.to_tensor(case.raw)
    there = case.modality.from_tensor(x, context)
    back = case.modality.from_tensor(x, _travelled(context))
    same = torch.equal(case.modality.to_tensor(there)[0], case.modality.to_tensor(back)[0])
    if same:
        return ""
    return (
        "the context that arrives gives another recording; put arrays and numbers into it, "
        "nothing that lives in one process"
    )


def _tensor_round_trip(case: Case) -> str:
    gap = case.apart(case.modality.from_tensor(*case.modality.to_tensor(case.raw)))
    if gap <= case.tolerance:
        return ""
    return (
        f"from_tensor(*to_tensor(raw)) is {gap:.4g} away, {case.tolerance:g} is allowed; "
        "carry what x loses in the context"
    )


def _file_round_trip(case: Case) -> str:
    path = case.folder / f"sample{case.suffix}"
    case.modality.save(case.raw, path)
    if [found.name for found in case.folder.iterdir()] != [path.name]:
        return (
            f"save left {sorted(found.name for found in case.folder.iterdir())}; "
            f"it must write {path.name!r} and nothing else"
        )
    gap = case.apart(case.modality.load(path))
    if gap <= case.tolerance:
        return ""
    return f"load(save(raw)) is {gap:.4g} away, {case.tolerance:g} is allowed; make save and load mirror each other"


def _same_bytes(case: Case) -> str:
    paths = [case.folder / f"{name}{case.suffix}" for name in ("one", "two")]
    for path in paths:
        case.modality.save(case.raw, path)
    same = paths[0].read_bytes() == paths[1].read_bytes()
    if same:
        return ""
    return "save writes different bytes for one recording; leave out the time and everything drawn at random"


def _without_context(case: Case) -> str:
    x = case.tensor()
    y = case.modality.to_tensor(case.modality.from_tensor(x, None))[0]
    return "" if y.shape[0] == x.shape[0] else f"from_tensor(x, None) becomes {tuple(y.shape)}, x was {tuple(x.shape)}"


def _anything_is_written(case: Case) -> str:
    x, context = case.modality.to_tensor(case.raw)
    for value in (torch.rand(x.shape, generator=_rng(0)) * 2 - 1, torch.ones(x.shape), -torch.ones(x.shape)):
        path = case.folder / f"made{case.suffix}"
        case.modality.save(case.modality.from_tensor(value, context), path)
        y = case.modality.to_tensor(case.modality.load(path))[0]
        if y.shape[0] != x.shape[0] or not y.isfinite().all() or y.abs().max() > 1:
            return (
                "a generated tensor, saved and loaded, leaves [-1, 1]; "
                "from_tensor must make a valid recording of any x in [-1, 1]"
            )
    return ""


def _own_size(case: Case) -> str:
    if not case.modality.extensive:
        return ""
    sizes = _sizes(case.modality.from_tensor(*case.modality.to_tensor(case.raw)))
    if sizes != _sizes(case.raw):
        return (
            f"the sample has arrays of {_sizes(case.raw)} and comes back with {sizes}; "
            "keep the original size in the context"
        )
    for x in _of_other_sizes(case.tensor(), case.modality.shape):
        raw = case.modality.from_tensor(x, None)
        back = case.modality.from_tensor(*case.modality.to_tensor(raw))
        if _sizes(back) != _sizes(raw):
            return f"a recording of {_sizes(raw)} comes back as {_sizes(back)}; keep the original size in the context"
    return ""


def _crops(case: Case) -> str:
    x, shape = case.tensor(), case.modality.shape
    kept = x.clone()
    for source in (x, *_of_other_sizes(x, shape)) if case.modality.extensive else (x,):
        crop = case.modality.crop(source, _rng(0))
        if tuple(crop.shape) != shape or crop.dtype != torch.float32:
            return f"crop of {tuple(source.shape)} gives {tuple(crop.shape)} {crop.dtype}; it must give {shape} float32"
    return "" if torch.equal(x, kept) else "crop changes the tensor it is given; return a copy"


def _crops_repeat(case: Case) -> str:
    x = case.tensor()
    same = torch.equal(case.modality.crop(x, _rng(7)), case.modality.crop(x, _rng(7)))
    return "" if same else "two equal generators give two crops; draw from `rng` only"


def _crops_vary(case: Case) -> str:
    channels, height, width = case.modality.shape
    if not case.modality.extensive:
        return ""
    noise = torch.rand((channels, height, 3 * width), generator=_rng(0)) * 2 - 1
    crops = {case.modality.crop(noise, _rng(seed)).numpy().tobytes() for seed in range(8)}
    if len(crops) > 1:
        return ""
    return "eight generators give one crop; choose the window with `rng`, or training sees one corner only"


def _renders(case: Case) -> str:
    crop = case.modality.crop(case.tensor(), _rng(0))
    picture = case.modality.render(crop)
    if picture.dtype == torch.uint8 and picture.ndim == 3 and picture.shape[0] == 3:
        return ""
    return f"render gives {tuple(picture.shape)} {picture.dtype}; it must give (3, H, W) uint8"


def _networks(case: Case) -> str:
    batch = _batch(case, 2)
    encoder, decoder, discriminator = _built(case.modality)
    latent, *finer = encoder(batch)
    if latent.ndim != 4 or latent.shape[:2] != (2, 4 * SMALL.width):
        return f"encoder gives a latent of {tuple(latent.shape)}; it must be (batch, 4 * width, h, w)"
    fake = decoder([latent, *finer])                # the trunk between them keeps the latent's shape
    if fake.shape != batch.shape:
        return (
            f"decoder gives {tuple(fake.shape)} for {tuple(batch.shape)}; "
            "height and width of shape must be multiples of the stride, 4"
        )
    if fake.abs().max() > 1:
        return f"decoder reaches {float(fake.abs().max()):g}; end it with tanh"
    scores = discriminator(fake)
    good = scores.ndim == 4 and scores.shape[:2] == (2, 1)
    return "" if good else f"discriminator gives {tuple(scores.shape)}; it must be (batch, 1, h, w)"


def _batch_is_singles(case: Case) -> str:
    batch = _batch(case, 3)
    encoder, decoder, discriminator = _built(case.modality)
    answers = {
        "encoder": lambda x: encoder(x)[0],
        "decoder": lambda x: decoder(encoder(x)),
        "discriminator": discriminator,
    }
    for name, network in answers.items():
        together, alone = network(batch), torch.cat([network(one[None]) for one in batch])
        if together.shape != alone.shape or (together - alone).abs().max() > ROUNDING * (1 + alone.abs().max()):
            return f"the {name} answers differently for a batch than for its members; normalise each sample on its own"
    return ""


def _metrics(case: Case) -> str:
    x = case.tensor()
    for name, measure in case.modality.metrics().items():
        value = measure(x, x.flip(-1))
        if not isinstance(value, float):
            return f"the metric {name!r} gives {type(value).__name__}; it must give one float"
    return ""


def _refuses_nothing(case: Case) -> str:
    path = case.folder / f"empty{case.suffix}"
    path.write_bytes(b"")
    try:
        raw = case.modality.load(path)
    except RecordingError as error:
        return "" if path.name in str(error) else f"load says {str(error)!r} of an empty file; name the file"
    except Exception as error:
        return (
            f"load answers an empty file with {type(error).__name__}; raise RecordingError, "
            "so that `generate` can put it aside"
        )
    if case.modality.to_tensor(raw)[0].numel():
        return ""
    return "load accepts an empty file, to_tensor makes nothing of it; raise RecordingError"


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _of_other_sizes(x: Tensor, shape: tuple[int, int, int]) -> list[Tensor]:
    """Narrow, odd and wide versions of x; lower and higher ones only where height is not the sensor's own."""
    widths = [x[..., :1], x[..., : max(1, x.shape[-1] - 1)], x[..., :7], torch.cat([x, x.flip(-1), x[..., :3]], dim=-1)]
    if x.shape[-2] == shape[1]:
        return widths
    return [*widths, x[:, :1], x[:, :5, :1], torch.cat([x, x[:, :1]], dim=-2)]


def _sizes(raw: Any) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in _arrays(raw)]


def _arrays(raw: Any) -> list[np.ndarray | Tensor]:
    """All arrays in a recording, whatever holds them."""
    if isinstance(raw, np.ndarray | Tensor):
        return [raw]
    if dataclasses.is_dataclass(raw):
        raw = [getattr(raw, field.name) for field in dataclasses.fields(raw)]
    if isinstance(raw, dict):
        raw = list(raw.values())
    return [array for part in raw for array in _arrays(part)] if isinstance(raw, list | tuple) else []


def _travelled(value: Any) -> Any:
    """What another process would receive."""
    failures: list[Exception] = []
    here, there = Pipe(duplex=False)

    def send() -> None:
        try:
            there.send(value)
        except Exception as error:
            failures.append(error)
        finally:
            there.close()

    sender = Thread(target=send)
    sender.start()
    try:
        return here.recv()
    except EOFError:
        sender.join()
        raise failures[0] from None
    finally:
        sender.join()
        here.close()


def _batch(case: Case, n: int) -> Tensor:
    x = case.tensor()
    return torch.stack([case.modality.crop(x, _rng(seed)).flip(-1 if seed % 2 else -2) for seed in range(n)])


def _built(modality: Modality) -> tuple[torch.nn.Module, ...]:
    """encoder, decoder and discriminator, small, the same each time, as they are at translation time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = modality.encoder(SMALL), modality.decoder(SMALL, False), modality.discriminator(SMALL)
    return tuple(network.eval().requires_grad_(False) for network in built)


MODALITY_LAWS: dict[str, Callable[[Modality], str]] = {
    "suffixes name the files it opens": _suffixes,
    "shape is (channels, height, width)": _shape,
    "its fields survive a config": _fields,
    "it can travel to another process": _travels,
}
FOUNDATION = "to_tensor gives float32 (C, H', W')"
SAMPLE_LAWS: dict[str, Callable[[Case], str]] = {
    FOUNDATION: _is_tensor,
    "to_tensor stays in [-1, 1]": _in_range,
    "to_tensor is repeatable": _repeats,
    "two equal modalities are interchangeable": _equal_modalities,
    "nothing given is changed": _untouched,
    "the context can travel to another process": _context_travels,
    "a recording survives the tensor": _tensor_round_trip,
    "a recording survives the file": _file_round_trip,
    "the same recording is the same bytes": _same_bytes,
    "no context is a context": _without_context,
    "any tensor in [-1, 1] can be written": _anything_is_written,
    "a recording of any size comes back at its own size": _own_size,
    "crop gives exactly shape": _crops,
    "crop is repeatable": _crops_repeat,
    "crop moves about": _crops_vary,
    "render gives a picture": _renders,
    "the networks fit the shape": _networks,
    "a batch is its members": _batch_is_singles,
    "metrics give numbers": _metrics,
    "an empty file is refused by name": _refuses_nothing,
}
