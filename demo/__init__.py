"""A demonstration of all steps from the Hub to a trained model; `make demo` runs it."""
