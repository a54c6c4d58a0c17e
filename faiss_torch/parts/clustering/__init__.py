"""k-means as faiss's classes have it."""
