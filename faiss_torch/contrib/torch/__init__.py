"""Client code for torch tensors, as ``faiss.contrib.torch`` has it."""
