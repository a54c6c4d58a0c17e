"""Benchmarks beside faiss-cpu: ``python -m benchmarks.run``."""
