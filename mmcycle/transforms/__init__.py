"""Training-time augmentations over multimodal samples."""
