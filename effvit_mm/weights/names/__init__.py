"""Published names of weights and ours: a table of rules for each family, read both ways."""
