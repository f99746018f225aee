"""Anybody's runs as one table: sources, columns, checks. Floor 2 of fitting."""
