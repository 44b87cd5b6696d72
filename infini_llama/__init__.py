"""Infini-Llama: a Llama with Infini-attention, trained offline from a verified bundle."""
