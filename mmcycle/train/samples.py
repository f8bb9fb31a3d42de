"""The picture of a run at one step, always of one set of recordings: rows A | A->B | A->B->A and B | B->A | B->A->B.

Where only one direction exists: rows A | A->B | B, the last one for comparison, no partner of the first.
"""
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.files import write_atomic
from mmcycle.modality import Modality

GAP = 4     # pixels between pictures


@torch.inference_mode()
def write_samples(
    path: Path, generators: nn.ModuleDict, a: Modality, b: Modality, real_a: Tensor, real_b: Tensor
) -> None:
    """(N, *shape_a), (M, *shape_b) -> a PNG with N + M rows (N where only one direction exists) of three pictures."""
    sensors = {"a": (a, real_a), "b": (b, real_b)}
    rows = []
    for direction, there in generators.items():
        (own, real), (other, examples) = sensors[direction[0]], sensors[direction[1]]
        fake = there(real)
        back = generators[direction[::-1]](fake) if direction[::-1] in generators else None
        for index in range(len(real)):
            pictures = [own.render(real[index]), other.render(fake[index].float())]
            if back is not None:
                pictures.append(own.render(back[index].float()))
            else:
                pictures.append(other.render(examples[index % len(examples)]))
            rows.append(pictures)
    write_rows(path, rows)


def write_rows(path: Path, rows: Sequence[Sequence[Tensor]]) -> None:
    """Rows of pictures, (3, H, W) uint8 each, as one file."""
    sheet = _below([_beside(pictures) for pictures in rows]).permute(1, 2, 0).cpu().numpy()
    write_atomic(path, lambda temporary: Image.fromarray(sheet).save(temporary))


def _beside(pictures: Sequence[Tensor]) -> Tensor:
    """(3, H, W) pictures -> one row, all as high as the highest."""
    height = max(p.shape[-2] for p in pictures)
    scaled = [_scaled(p, height) for p in pictures]
    return torch.cat([F.pad(p, (0, GAP), value=255) for p in scaled], dim=-1)


def _below(rows: list[Tensor]) -> Tensor:
    width = max(row.shape[-1] for row in rows)
    return torch.cat([F.pad(row, (0, width - row.shape[-1], 0, GAP), value=255) for row in rows], dim=-2)


def _scaled(picture: Tensor, height: int) -> Tensor:
    factor = height / picture.shape[-2]
    if factor == 1:
        return picture
    size = (height, round(picture.shape[-1] * factor))
    return F.interpolate(picture[None].float(), size=size, mode="nearest")[0].to(torch.uint8)
