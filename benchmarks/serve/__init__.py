"""What a served byte costs."""
