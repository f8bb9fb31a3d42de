"""Training-time augmentations over multimodal samples, to stand among those of torchvision.transforms.v2."""
from mmcycle.transforms.adversarial import AdversarialAugment, HardestStrength
from mmcycle.transforms.apply import Apply
from mmcycle.transforms.camera_crop import SyncCrop
from mmcycle.transforms.dropout import ModalityDropout
from mmcycle.transforms.mixup import CrossModalMixup, FeatureMixup
from mmcycle.transforms.sensors import Boxes3D, Frames, Points, RangeImage, Wave
from mmcycle.transforms.sweep_mix import LaserMix, PolarMix
from mmcycle.transforms.synchronized import SyncMirror
from mmcycle.transforms.time_crop import SyncTimeCrop
from mmcycle.transforms.translate import Translate

__all__ = [
    "AdversarialAugment", "Apply", "Boxes3D", "CrossModalMixup", "FeatureMixup", "Frames", "HardestStrength",
    "LaserMix", "ModalityDropout", "Points", "PolarMix", "RangeImage", "SyncCrop", "SyncMirror", "SyncTimeCrop",
    "Translate", "Wave",
]
