"""What lies at a path, how it is checked, and how it becomes a pipeline."""
