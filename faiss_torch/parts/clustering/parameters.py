"""The settings of k-means, and what it tells of its iterations."""

from __future__ import annotations

from ...attributes import CheckedAttributes, Size
from ...constants import ClusteringInitMethod_RANDOM
from ...wrapper.ownership import Owned
from ...wrapper.vectors import ObjectVector


class ClusteringParameters(Owned, CheckedAttributes):
    """Settings of k-means.

    Attributes
    ----------
    niter : int
        Iterations, at most.
    nredo : int
        Tries with other initial centroids; the one with the best objective is kept.
    verbose : bool
        Print progress to stdout.
    spherical : bool
        Normalise the centroids after each iteration.
    int_centroids : bool
        Round the centroids to integers after each iteration.
    update_index : bool
        Train the index again after each iteration.
    frozen_centroids : bool
        Leave the centroids that were given as input as they are.
    min_points_per_centroid : int
        With fewer training vectors per centroid there is a warning on stderr.
    max_points_per_centroid : int
        With more, the training set is subsampled.
    seed : int
        Negative for one from the clock.
    decode_block_size : int
        Vectors decoded at a time when the training set is encoded.
    check_input_data_for_NaNs : bool
        Refuse training vectors that are not finite.
    use_faster_subsampling : bool
        Subsample by splitmix64, which may choose a vector twice.
    init_method : int
        One of the ``ClusteringInitMethod_*`` numbers.
    afkmc2_chain_length : int
        Proposals for each centroid of AFK-MC2.
    early_stop_threshold : float
        Stop when the objective changes by this share or less; 0 stops when it does not change at all.
    use_super_kmeans : bool
        Accepted; faiss then prunes distance computations, here the assignment is always the same.
    memory_budget : int or None
        Bytes that training vectors may take on a device (an extension). What does not fit comes to it anew in each
        iteration. None for half of what is free.
    """

    niter: int
    nredo: int
    verbose: bool
    spherical: bool
    int_centroids: bool
    update_index: bool
    frozen_centroids: bool
    min_points_per_centroid: int
    max_points_per_centroid: int
    seed: int
    decode_block_size: Size
    check_input_data_for_NaNs: bool
    use_faster_subsampling: bool
    init_method: int
    afkmc2_chain_length: Size
    early_stop_threshold: float
    use_super_kmeans: bool

    def __init__(self) -> None:
        self.niter = 25
        self.nredo = 1
        self.verbose = False
        self.spherical = False
        self.int_centroids = False
        self.update_index = False
        self.frozen_centroids = False
        self.min_points_per_centroid = 39
        self.max_points_per_centroid = 256
        self.seed = 1234
        self.decode_block_size = 32768
        self.check_input_data_for_NaNs = True
        self.use_faster_subsampling = False
        self.init_method = ClusteringInitMethod_RANDOM
        self.afkmc2_chain_length = 50
        self.early_stop_threshold = 0.0
        self.use_super_kmeans = False
        self.memory_budget: int | None = None

    def _copy_parameters(self, cp: ClusteringParameters | None) -> None:
        """Take over the values of other parameters."""
        if cp is None:
            return
        for name in vars(ClusteringParameters()):
            setattr(self, name, getattr(cp, name))


class ClusteringIterationStats:
    """What is known of one iteration.

    Attributes
    ----------
    obj : float
        The objective: sum of the distances to the nearest centroids, before the update.
    time : float
        Seconds since the start.
    time_search : float
        Seconds of these for the assignment.
    imbalance_factor : float
        1 for clusters of one size, k for a single one.
    nsplit : int
        Empty clusters that were filled by splitting another.
    """

    def __init__(
        self,
        obj: float = 0.0,
        time: float = 0.0,
        time_search: float = 0.0,
        imbalance_factor: float = 0.0,
        nsplit: int = 0,
    ) -> None:
        self.obj = obj
        self.time = time
        self.time_search = time_search
        self.imbalance_factor = imbalance_factor
        self.nsplit = nsplit


class ClusteringIterationStatsVector(ObjectVector[ClusteringIterationStats]):
    """A vector of ``ClusteringIterationStats``."""

    element = ClusteringIterationStats
