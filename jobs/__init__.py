"""Jobs that run on a laptop or a cluster, one file each."""
