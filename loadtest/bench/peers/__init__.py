"""Peers: the same work done by others, as processes that a bench starts beside ours."""
