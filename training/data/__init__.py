"""Training data: where clips come from, how they are stored, and how pairs and batches are made of them."""
