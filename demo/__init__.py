"""The demonstration of the whole chain, run by `make demo`."""
