"""Assignment to the nearest centroids, and the steps of k-means."""
