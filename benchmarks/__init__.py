"""Measurements, side by side in one run: what the service does against the bare operations it needs."""
