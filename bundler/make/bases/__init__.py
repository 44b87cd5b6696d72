"""Contents that others are stored as differences from."""
