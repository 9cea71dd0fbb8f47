"""Stages that changed while tasks were in flight: what differs, and how a stored task takes it over."""
