"""Stored rows -> tables: what a report states, as numbers."""
