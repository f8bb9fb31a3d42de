"""Recordings to recordings, data sets to data sets."""
