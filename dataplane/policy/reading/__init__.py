"""Text to values with their places, and every mistake in it at once."""
