"""The screen Implosion."""
