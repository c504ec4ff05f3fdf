"""Ingest: from the machines' MQTT broker into the log."""
