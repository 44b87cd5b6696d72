"""Bring what a launch needs into a home on a node's own disk, and keep that home below a size."""
