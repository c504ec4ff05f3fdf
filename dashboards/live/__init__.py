"""The operator page: a view folded from the log, and the server that shows it."""
