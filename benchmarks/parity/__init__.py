"""How fast parity is made, and what is lost is rebuilt from it."""
