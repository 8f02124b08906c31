"""What a run does: each flow reads like the runbook it replaces."""
