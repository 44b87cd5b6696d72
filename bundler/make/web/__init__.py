"""Files of other hosts in the store."""
