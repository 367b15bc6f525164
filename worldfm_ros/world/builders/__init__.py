"""Ways to make a world from what people have."""
