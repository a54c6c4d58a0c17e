"""GpuParameterSpace: search parameters by name, of indexes on GPUs."""

from __future__ import annotations

from ..indexes.base import Index
from ..indexes.composite.shards import IndexShardsIVF
from ..indexes.composite.threaded import ThreadedIndexBase
from ..indexes.ivf.base import IndexIVF
from ..tools.autotune import ParameterSpace

#: How many values of nprobe there are to try, in powers of two.
NPROBE_VALUES = 12


class GpuParameterSpace(ParameterSpace):
    """The search parameters of an index on one or several GPUs."""

    def initialize(self, index: Index) -> None:
        """Fill in ranges for an index, or for the first of replicas or shards.

        nprobe takes powers of two below nlist, up to 2048, as in faiss. `set_index_parameter` takes any, and sets it in
        all replicas or shards.
        """
        if isinstance(index, ThreadedIndexBase) and not isinstance(index, IndexShardsIVF):
            if index.count():
                self.initialize(index.at(0))
            return
        super().initialize(index)
        if isinstance(index, IndexIVF):
            nprobe = self.add_range("nprobe").values
            nprobe.resize(min(len(nprobe), NPROBE_VALUES))
