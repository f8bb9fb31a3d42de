"""Whole experiments to run, read and copy, one flat script each."""
