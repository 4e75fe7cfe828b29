"""The world: where blocks of records come from and where results go."""
