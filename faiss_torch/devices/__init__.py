"""Devices as GPUs: which there are, and faiss's names for indexes on them."""
