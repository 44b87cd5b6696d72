"""Content that is on this machine already: an HF cache beside the store, and what the store itself holds."""
