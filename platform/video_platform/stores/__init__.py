"""What a store is made of: one file for each place that bytes can live in."""
