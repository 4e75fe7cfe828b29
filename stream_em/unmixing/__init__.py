"""Superimposed signals, separated while they arrive."""
