"""Recordings and their labels on disk, and unpaired batches of them."""
