"""Stopping a long training from outside."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def clustering(faiss):
    """A clustering that ends after many seconds."""
    cp = faiss.ClusteringParameters()
    cp.niter = 3000
    cp.early_stop_threshold = -1.0
    return faiss.Clustering(16, 200, cp)


def vectors():
    return np.random.RandomState(0).rand(8000, 16).astype("float32")


def test_timeout(faiss, clustering):
    index = faiss.IndexFlatL2(16)
    with faiss.TimeoutGuard(0.05), pytest.raises(RuntimeError):
        clustering.train(vectors(), index)
    assert clustering.iteration_stats.size() < 3000
    # and after it everything goes on
    assert faiss.Kmeans(16, 4, niter=3).train(vectors()) > 0


def test_training_an_inverted_file(faiss):
    index = faiss.index_factory(16, "IVF200,Flat")
    index.cp.niter = 3000
    index.cp.early_stop_threshold = -1.0
    with faiss.TimeoutGuard(0.05), pytest.raises(RuntimeError):
        index.train(vectors())
    assert not index.is_trained


def test_callback_of_ones_own(ours):
    class After(ours.InterruptCallback):
        asked = 0

        def want_interrupt(self):
            After.asked += 1
            return After.asked == 3

    clustering = ours.Clustering(16, 200)
    ours.InterruptCallback.install(After())
    try:
        with pytest.raises(RuntimeError, match="computation interrupted"):
            clustering.train(vectors(), ours.IndexFlatL2(16))
    finally:
        ours.PythonInterruptCallback.reset()
    assert clustering.iteration_stats.size() == 2


def test_the_index_holds_the_last_centroids_after_an_interrupt(ours):
    x = vectors()

    class AfterThree(ours.InterruptCallback):
        calls = 0

        def want_interrupt(self):
            self.calls += 1
            return self.calls > 3

    interrupted = ours.IndexFlatL2(16)
    ours.InterruptCallback.install(AfterThree())
    try:
        with pytest.raises(RuntimeError):
            ours.Clustering(16, 50).train(x, interrupted)
    finally:
        ours.InterruptCallback.clear_instance()
    three = ours.ClusteringParameters()
    three.niter = 3
    whole = ours.IndexFlatL2(16)
    ours.Clustering(16, 50, three).train(x, whole)
    np.testing.assert_array_equal(interrupted.reconstruct_n(0, 50), whole.reconstruct_n(0, 50))
