"""Tools around indexes: neighbours without an index, k-means, tuning, statistics, small array functions."""
