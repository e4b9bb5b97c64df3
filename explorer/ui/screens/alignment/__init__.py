"""The screen Alignment difficulty."""
