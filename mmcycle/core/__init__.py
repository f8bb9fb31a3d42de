"""Networks, losses and memory of unpaired translation: knows shapes, no sensor, no files."""
