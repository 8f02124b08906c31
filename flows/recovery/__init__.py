"""Rebuilding Droplets from their copies, and proving that it works."""
