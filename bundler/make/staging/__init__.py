"""What is under way in the store: downloads that are not finished, and work folders."""
