"""Benches: what each part costs on real servers, measured several times, with the proof that nothing got lost."""
