"""What any training platform for video needs: media, datasets, caches, training, tracking."""
