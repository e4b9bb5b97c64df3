"""The screen Checkpoints."""
