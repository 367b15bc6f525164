"""Reports: one HTML page on bags, worlds and evaluations."""
