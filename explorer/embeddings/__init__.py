"""Universal extractors, cached features, embedding stores."""
