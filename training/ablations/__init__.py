"""The paper's choices against their alternatives, at equal steps, small."""
