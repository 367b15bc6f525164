"""A robot in a world: where it may be, and how it moves."""
