"""Bytes to crash reports: unwrap, lines, find, formats, stack, culprit."""
