"""Size, speed and memory of bundles beside other tools, run by `make bench`."""
