"""SearchParameters: settings of one search call."""

from __future__ import annotations

from typing import Any

from .selectors import IDSelector


class SearchParameters:
    """Settings that apply to one call of search or range_search.

    Parameters
    ----------
    **settings
        Any attribute by keyword; a name that is not an attribute is an AssertionError, as in faiss.

    Attributes
    ----------
    sel : IDSelector or None
        Which ids may be found.
    """

    def __init__(self, **settings: Any) -> None:
        self.sel: IDSelector | None = None
        self._defaults()
        for name, value in settings.items():
            if not hasattr(self, name):
                raise AssertionError(f"{type(self).__name__} has no setting {name!r}")
            setattr(self, name, value)

    def _defaults(self) -> None:
        """Make the attributes of a subclass."""


class SearchParametersIVF(SearchParameters):
    """Settings of one search of an IVF index.

    Attributes
    ----------
    nprobe : int
        Lists to look at (default 1).
    max_codes : int
        Vectors to look at in all; 0 for no limit.
    max_empty_result_buckets : int
        range_search stops after this many lists without a result; 0 for no limit.
    ensure_topk_full : bool
        Let `max_codes` count whole lists, and at least k vectors.
    quantizer_params : SearchParameters or None
        For the search of the quantizer.
    """

    def _defaults(self) -> None:
        self.nprobe = 1
        self.max_codes = 0
        self.max_empty_result_buckets = 0
        self.ensure_topk_full = False
        self.quantizer_params: SearchParameters | None = None
        self.inverted_list_context: Any = None


IVFSearchParameters = SearchParametersIVF
