"""Captioned pictures: pair sets, and the sources they are imported from."""
