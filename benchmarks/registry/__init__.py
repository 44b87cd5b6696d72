"""What a bundle in a registry costs."""
