"""Trained models, packed from the folders that they were written to."""
