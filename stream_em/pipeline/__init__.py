"""Source -> learner -> snapshot -> sink: the only loop with a clock, and how it is put together from a config."""
