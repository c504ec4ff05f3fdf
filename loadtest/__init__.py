"""Simulated patients and machines, real servers to run them against, faults, and the benchmarks."""
