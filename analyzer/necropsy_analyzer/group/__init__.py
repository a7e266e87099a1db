"""Verdicts to groups: the same cause elsewhere."""
