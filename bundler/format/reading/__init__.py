"""Chunks read ahead on several threads: in order, or handed out where they are decoded."""
