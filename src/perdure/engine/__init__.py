"""Runs a task hub on a store: leases, mail, episodes, group commit, activities."""
