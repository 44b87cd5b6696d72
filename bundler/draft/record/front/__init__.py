"""A door to the Hub on loopback: it passes every request on, and notes which files were asked for."""
