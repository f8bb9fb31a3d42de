"""The numbers that describe the networks, the objective and the descent: frozen values that import no torch.

They are the `model`, `loss` and `train` sections of a config; their defaults are the only ones there are.
"""
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

STRICT = {"extra": "forbid"}                                            # read by pydantic: an unknown key is an error


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What the generators and discriminators look like."""

    __pydantic_config__: ClassVar = STRICT

    generator: Literal["resnet", "unet", "light", "bilateral"] = "resnet"   # "bilateral" can only recolour
    width: Annotated[int, Gt(0), Le(1024)] = 64                         # channels at full size; 4 times as many in the latent
    blocks: Annotated[int, Ge(0), Le(64)] = 9                           # residual blocks of the trunk
    upsample: Literal["resize", "transposed"] = "resize"                # resize-conv leaves no checkerboard
    residual: bool = False                                              # the generator predicts a change to its input
    discriminator_width: Annotated[int, Gt(0), Le(1024)] = 64
    discriminator_layers: Annotated[int, Ge(1), Le(8)] = 3              # receptive field 16, 34, 70, 142 for 1, 2, 3, 4
    discriminator_norm: Literal["spectral", "instance", "none"] = "spectral"
    discriminator_sees: Literal["sample", "pair"] = "sample"            # "pair": the source, too (pix2pix); wants batches of 2 or more


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the networks are asked for. A weight of 0: the pass is not computed; that of `consistency` is above 0."""

    __pydantic_config__: ClassVar = STRICT

    adversarial: Literal["lsgan", "hinge", "nonsaturating", "wgan-gp"] = "lsgan"
    consistency: Literal["cycle", "nce", "both", "none"] = "cycle"      # "nce" alone trains a -> b only, as CUT does;
    #                                                                     "none" with `paired` is pix2pix, a -> b only;
    #                                                                     without, b must have a head that `keeps`
    cycle: Annotated[float, Ge(0)] = 10.0
    cycle_distance: Literal["l1", "charbonnier"] = "l1"
    identity: Annotated[float, Ge(0)] = 5.0
    identity_end: Annotated[float, Ge(0)] | None = None                 # the weight it decays to; none: it stays
    identity_until: Annotated[float, Gt(0), Le(1)] = 0.2                # share of the steps in which it gets there
    nce: Annotated[float, Ge(0)] = 1.0
    nce_patches: Annotated[int, Gt(1)] = 256
    nce_temperature: Annotated[float, Gt(0)] = 0.07
    gradient_penalty: Annotated[float, Ge(0)] = 10.0                    # wgan-gp only
    r1: Annotated[float, Ge(0)] = 0.0                                   # zero-centred penalty on real samples
    r1_every: Annotated[int, Gt(0)] = 16                                # steps between two penalties, scaled up to match
    low_resolution: Annotated[float, Ge(0)] = 0.0                       # keeps what shows at 1 / low_resolution_factor
    low_resolution_factor: Annotated[int, Gt(1)] = 8
    style: Annotated[float, Ge(0)] = 0.0                                # what was given is shown, where heads have styles
    paired: Annotated[float, Ge(0)] = 0.0                               # L1 to the true partner, where one is known
    task: Annotated[float, Ge(0)] = 0.0                                 # a frozen network says of fake_b what it says of real_a
    task_network: str | None = None                                     # "my_lab.nets:segmenter" returns the network


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the networks are taught. Everything counts optimiser steps, never epochs."""

    __pydantic_config__: ClassVar = STRICT

    steps: Annotated[int, Gt(0)] = 200_000
    batch_size: Annotated[int, Gt(0)] = 1                               # per device
    lr: Annotated[float, Gt(0)] = 2.0e-4
    discriminator_lr: Annotated[float, Gt(0)] | None = None             # none: the same (a larger one is TTUR)
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.5, 0.999)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warm_up: Annotated[int, Ge(0)] = 0                                  # steps in which lr rises from 0
    decay_from: Annotated[float, Ge(0), Lt(1)] = 0.5                    # share of the steps after which lr falls to 0
    ema: Annotated[float, Ge(0), Lt(1)] = 0.999                         # of the generators: what is evaluated and exported
    replay: Annotated[int, Ge(0)] = 50                                  # fakes remembered per domain; 0: none
    clip: Annotated[float, Ge(0)] = 0.0                                 # largest gradient norm; 0: unlimited
    diff_augment: tuple[Literal["color", "translation", "cutout"], ...] = ()
    max_bad_steps: Annotated[int, Gt(0)] = 20                           # steps in a row with a loss that is not finite
