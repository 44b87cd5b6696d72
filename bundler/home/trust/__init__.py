"""What a home keeps of signatures: those of its generations, and the highest release of each name."""
