"""Coverage-guided fuzzing of everything that is read from somebody else: `make fuzz`."""
