"""What a checkpoint can be, one file a kind: how it is recognised, described, checked and loaded."""
