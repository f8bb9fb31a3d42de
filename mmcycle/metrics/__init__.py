"""Distances between sets, faithfulness to the source, and the gain downstream."""
