"""Installing a bundle into a home: what it would do, the steps, and what they did."""
