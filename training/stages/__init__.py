"""What is learned, stage by stage: autoencoder, the paper's three stages (2.4), and the finishing in pictures."""
