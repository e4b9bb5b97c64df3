"""What the models draw, judged."""
