"""Ranges of what a web server has."""
