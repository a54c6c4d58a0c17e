"""Search of flat rows and of inverted lists."""
