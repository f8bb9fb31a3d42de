"""A labelled street, ray-cast: the data that every recipe can run on."""
