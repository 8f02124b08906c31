"""Which snapshots may go: a rule that says what is kept, and a plan made of it. Pure decisions."""
