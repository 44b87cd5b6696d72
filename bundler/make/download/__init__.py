"""Download files into the store: over as many connections as they profit from, resumed, and compared with the lock."""
