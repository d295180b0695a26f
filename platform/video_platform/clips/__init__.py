"""Which pieces of a source's videos become clips, of what size, and which are left out and why."""
