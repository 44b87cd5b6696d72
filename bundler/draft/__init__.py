"""Writing a manifest: from a program that runs, from source code, or entry by entry."""
