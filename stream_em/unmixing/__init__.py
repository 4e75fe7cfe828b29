"""Superimposed signals told apart while they arrive."""
