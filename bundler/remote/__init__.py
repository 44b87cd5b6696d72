"""Bytes of an object on another machine, at any range: by https, from an OCI registry, from an object store."""
