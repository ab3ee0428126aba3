"""Measurements of alignment: the demo world, criteria, speed."""
