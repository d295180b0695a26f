"""What any training platform for video needs: media, datasets, the latent cache, training, tracking."""
