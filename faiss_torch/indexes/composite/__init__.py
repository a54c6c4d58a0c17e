"""Indexes that are made of others."""
