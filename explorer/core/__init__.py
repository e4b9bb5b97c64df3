"""What every room stands on: manifests, files, workers, statistics."""
