"""Bring a bundle to an address and from one, whole or one file of it."""
