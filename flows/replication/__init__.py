"""How images come to be in every region: choose what to copy, plan what is missing, carry the plan out."""
