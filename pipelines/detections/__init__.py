"""Readers of 2D detections: one format a file, all returning `Track`."""
