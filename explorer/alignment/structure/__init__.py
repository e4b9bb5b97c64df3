"""Structure distances of all pairs of samples: exact, on a GPU, or estimated."""
