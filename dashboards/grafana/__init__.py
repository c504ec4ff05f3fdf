"""Grafana as code: `boards/` and `provisioning/` are written by `dashboards.grafana.builder` (`scripts/dashboards`)."""
