"""What is measured of a drawing: a metric, or several that share their input, in a file each."""
