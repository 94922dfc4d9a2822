"""What a gateway tells Prometheus: what it counts itself, and what Redis knows of all processes together."""
