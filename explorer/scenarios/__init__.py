"""Recipes that make models from end to end."""
