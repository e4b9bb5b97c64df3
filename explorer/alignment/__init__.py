"""Alignment Difficulty and what follows from it."""
