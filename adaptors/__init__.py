"""Adaptors: the outer edge. Logs, MQTT, history sinks, downlink."""
