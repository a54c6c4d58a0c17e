"""Tiles in int8 or bfloat16: the screen for many queries on the CPU."""
