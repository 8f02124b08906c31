"""Which snapshots to delete: the retention rule and the plan computed from it."""
