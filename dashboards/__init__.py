"""What people look at: Grafana's dashboards as code, and the operator page."""
