"""How operations run: threads, streams, TorchScript, memory, and what a machine's arithmetic is good at."""
