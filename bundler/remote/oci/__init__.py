"""Bundles in OCI registries: what is read of them and written to them (OCI distribution specification 1.1)."""
