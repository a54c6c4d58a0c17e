"""Merge indexes into inverted lists on disk, as ``faiss.contrib.ondisk`` does."""

from __future__ import annotations

import logging
from typing import Any

from .. import IO_FLAG_MMAP, InvertedListsPtrVector, OnDiskInvertedLists, extract_index_ivf, read_index

LOG = logging.getLogger(__name__)


def merge_ondisk(trained_index: Any, shard_fnames: list[str], ivfdata_fname: str, shift_ids: bool = False) -> None:
    """Put the content of several index files into an empty index whose inverted lists are in a file of their
    own.

    Parameters
    ----------
    trained_index : Index
        Empty, trained, and an IVF index or one around it.
    shard_fnames : list of str
        Index files with the same quantizer.
    ivfdata_fname : str
        The file for the inverted lists.
    shift_ids : bool
        Whether to add to a file's ids the number of vectors in the files before it.

    Raises
    ------
    AssertionError
        If `trained_index` has vectors.
    """
    assert trained_index.ntotal == 0, f"index has {trained_index.ntotal} vectors, expected an empty one"
    # mapped, so that the lists together may be larger than memory
    indexes = [read_index(fname, IO_FLAG_MMAP) for fname in shard_fnames]
    shards = InvertedListsPtrVector()
    for index in indexes:
        shards.push_back(extract_index_ivf(index).invlists)
    index_ivf = extract_index_ivf(trained_index)
    invlists = OnDiskInvertedLists(index_ivf.nlist, index_ivf.code_size, ivfdata_fname)
    LOG.info("merge %d indexes", len(indexes))
    ntotal = invlists.merge_from_multiple(shards.data(), shards.size(), shift_ids)
    trained_index.ntotal = index_ivf.ntotal = ntotal
    index_ivf.replace_invlists(invlists, True)
