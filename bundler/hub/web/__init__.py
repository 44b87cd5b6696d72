"""Files of other hosts than the Hub: taking them, and what a manifest's entries for them resolve to."""
