"""How and where runs come to be."""
