"""DSSE envelopes and sigstore bundles: the forms in which other tools carry a signed statement."""
