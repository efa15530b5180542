"""Checks of data sets before work starts."""
