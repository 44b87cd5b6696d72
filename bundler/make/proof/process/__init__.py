"""Processes of the proof: the cache that they find, their folders and environment, and what holds them."""
