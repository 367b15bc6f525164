"""Clips of procedural scenes with exact depth, labels and poses, made on the fly (paper 2.4.1, synthetic data)."""
