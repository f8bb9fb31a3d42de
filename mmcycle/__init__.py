"""Unpaired translation between two domains of sensor recordings, used to make labelled training data.

    file -load-> raw -to_tensor-> x, context -crop-> (C,H,W) -encoder_A-> latent -trunk-> latent -decoder_B-> (C',H',W')
    file <-save- raw <-from_tensor- x', context <----------- whole recording, padded, tiled, blended by Translator
"""
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """mmcycle.BatchTranslator, imported when it is asked for: importing mmcycle costs nothing."""
    if name == "BatchTranslator":
        from mmcycle.generate.batches import BatchTranslator

        return BatchTranslator
    raise AttributeError(f"module 'mmcycle' has no attribute {name!r}")
