"""What the coverage report finds out about each Droplet."""
