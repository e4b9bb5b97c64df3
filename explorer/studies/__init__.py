"""Studies: the models, data and settings of one question, and everything that was measured of them."""
