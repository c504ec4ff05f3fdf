"""The thinking: messages, metrics, decisions, the envelope and the two reducers. No I/O, no clock, no randomness."""
