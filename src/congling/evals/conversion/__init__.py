"""One model in two programs: whether they compute the same."""
