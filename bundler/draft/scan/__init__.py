"""Reading Python source for what it loads from the Hub, without running it."""
