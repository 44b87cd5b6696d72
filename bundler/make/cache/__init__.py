"""Content that is on this machine already: an HF cache beside the store."""
