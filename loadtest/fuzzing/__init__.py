"""Fuzzing: damaged messages through the bridge and both stages; what is wrong must end aside, unchanged."""
