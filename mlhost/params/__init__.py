"""Typed parameters: JSON to what the user's code sees, and back (contract section 3)."""
