"""One file a sensor; found by name through mmcycle.modality.find_modality, imported by nobody."""
