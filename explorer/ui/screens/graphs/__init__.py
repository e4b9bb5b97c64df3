"""The screen Graphs."""
