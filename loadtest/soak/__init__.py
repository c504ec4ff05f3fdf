"""Soak: millions of reps through one process, to see whether its memory grows."""
