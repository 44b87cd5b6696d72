"""A folder for PYTHONPATH: its `sitecustomize` has every Python process of a recording watched."""
