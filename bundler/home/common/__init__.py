"""The view that all bundles of a home share: `hub/` and `datasets/`, where the libraries look by default."""
