"""Content of a bundle, and content that it is stored as a difference from."""
