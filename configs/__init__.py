"""The numbers of each recipe: configs/X.yaml belongs to recipes/X.py."""
