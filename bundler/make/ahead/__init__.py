"""Encoding of large files while others are downloaded and all is proven, in a process of its own."""
