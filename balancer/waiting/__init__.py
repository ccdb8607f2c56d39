"""Callers in line, and how they sleep and wake."""
