"""Training-time augmentations over multimodal samples, to stand among those of torchvision.transforms.v2."""
from mmcycle.transforms.apply import Apply
from mmcycle.transforms.translate import Translate

__all__ = ["Apply", "Translate"]
