"""The 3-D causal video autoencoder."""
