"""The engine: pure functions on tensors. No Index, no numpy, no global state."""
