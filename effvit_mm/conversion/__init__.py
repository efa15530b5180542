"""Published names of weights to ours: a table of rules for each family."""
