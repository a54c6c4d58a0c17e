"""The host's side of the Triton kernels."""
