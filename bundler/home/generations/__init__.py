"""What becomes of generations that are not the current ones: adopted, rolled back to, pruned."""
