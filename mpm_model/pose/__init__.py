"""Geometry of poses: nothing here is learnt."""
