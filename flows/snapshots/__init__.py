"""Taking snapshots of Droplets: which are missing, and how they are taken exactly once."""
