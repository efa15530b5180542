"""Configs read, completed and checked."""
