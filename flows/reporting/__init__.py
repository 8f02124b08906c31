"""What a run has to say: its report, the tables a person reads, and where they are published."""
