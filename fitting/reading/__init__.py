"""Anybody's runs as one table: sources, columns, checks. Floor 3 of fitting."""
