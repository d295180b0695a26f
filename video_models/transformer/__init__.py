"""The spatiotemporal diffusion transformer."""
