"""Component densities, shared by mixtures and chains."""
