"""Chaos: the whole loop on real servers while things break, and then the books are balanced."""
