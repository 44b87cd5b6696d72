"""The folder that an offline launch puts first on PYTHONPATH; it is meant to hold `sitecustomize.py` and no more."""
