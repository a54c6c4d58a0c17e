"""Indexes that compare a query with every vector."""
