"""Numbers in, numbers out: the ground floor."""
