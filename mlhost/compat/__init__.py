"""Bridges for clients of the original server that today's Pythons no longer run."""
