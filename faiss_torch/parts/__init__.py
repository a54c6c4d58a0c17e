"""Small faiss-shaped objects that hold trained or stored tensors."""
