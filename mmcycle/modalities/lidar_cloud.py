"""A sweep as points to walk around in the report: coloured by intensity, and by class where its labels are known."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcycle.modalities.point_files import Sweep
from mmcycle.modalities.point_labels import read_labels
from mmcycle.modality import Cloud


def cloud(sweep: Sweep, full_intensity: float, labels: Sequence[Path] = ()) -> Cloud:
    """Of the label files, the first of points; RecordingError when it has not one label for each record."""
    share = np.clip(sweep.intensity.astype(np.float64) / full_intensity, 0, 1)
    colours = {"intensity": np.sqrt(share)}             # most of a street is dark
    for path in filter(is_of_points, labels):
        colours["label"] = read_labels(path, sweep.records).semantic[sweep.kept]
        break
    return Cloud(sweep.points, colours)


def is_of_points(label: Path) -> bool:
    """`.label` of SemanticKITTI and `.bin` of nuScenes lidarseg."""
    lidarseg = "lidarseg" in f"{label.parent.name}/{label.name}".lower()
    return label.suffix.lower() == ".label" or label.suffix.lower() == ".bin" and lidarseg
