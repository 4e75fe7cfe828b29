"""Thin faces over `Learner` for users of river and of scikit-learn: names and shapes, no mathematics."""
