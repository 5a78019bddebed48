"""What the HTTP API costs."""
