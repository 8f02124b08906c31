"""Replication of images: choose them, plan what is missing, carry out the plan."""
