"""The screen Defence."""
