"""Readers of motion capture: one format a file, all returning `Recording`."""
