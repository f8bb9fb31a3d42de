"""Unpaired translation between two domains of sensor recordings, used to make labelled training data.

    file -load-> raw -to_tensor-> x, context -crop-> (C,H,W) -encoder_A-> latent -trunk-> latent -decoder_B-> (C',H',W')
    file <-save- raw <-from_tensor- x', context <----------- whole recording, padded, tiled, blended by Translator
"""
from importlib import import_module
from typing import Any

__version__ = "0.1.0"


PUBLIC = {"Translator": "mmcycle.generate.translator", "BatchTranslator": "mmcycle.generate.batches"}


def __getattr__(name: str) -> Any:
    """mmcycle.Translator and its like, imported when they are asked for: importing mmcycle costs nothing."""
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'mmcycle' has no attribute {name!r}")
