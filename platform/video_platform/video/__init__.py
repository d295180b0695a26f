"""Media in and out: probe, decode, encode, all of it bounded and isolated from the rest."""
