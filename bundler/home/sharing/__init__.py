"""A home that several users have: who may read it, and who is trusted to have written it."""
