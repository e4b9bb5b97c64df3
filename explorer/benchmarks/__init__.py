"""Our code beside its peers."""
