"""One bundle on a thousand nodes: a simulation with measured rates, and one point of it run for real."""
