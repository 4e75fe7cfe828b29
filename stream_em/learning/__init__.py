"""What is learned and kept: starts, batch EM, the learner and its file."""
