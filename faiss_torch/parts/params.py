"""SearchParameters: settings of one search call."""

from __future__ import annotations

from typing import Any, ClassVar

from ..attributes import CheckedAttributes, Size
from ..wrapper.ownership import Owned
from .selectors import IDSelector


class SearchParameters(Owned, CheckedAttributes):
    """Settings that apply to one call of search or range_search.

    Parameters
    ----------
    **settings
        Any attribute by keyword; a name that is not an attribute is an AssertionError, as in faiss.

    Attributes
    ----------
    sel : IDSelector or None
        Which ids may be found.

    Raises
    ------
    TypeError
        If a setting is of another type; also where it is set later.
    OverflowError
        If a number of things is negative.
    """

    _objects: ClassVar[dict[str, type]] = {"sel": IDSelector}

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
        Vectors to look at in all, of those that `sel` selects; 0 for no limit.
    max_empty_result_buckets : int
        range_search is done with a query after this many lists in a row without a result; 0 for no limit.
    max_lists_num : int
        Lists to look at; of fast-scan indexes only, as in faiss.
    ensure_topk_full : bool
        Let `max_codes` count whole lists, and at least k vectors.
    quantizer_params : SearchParameters or None
        For the search of the quantizer.
    inverted_list_context : None
        For lists that read it; none of this library do.
    """

    nprobe: Size
    max_codes: Size
    max_lists_num: Size
    max_empty_result_buckets: Size
    ensure_topk_full: bool

    _objects: ClassVar[dict[str, type]] = {"quantizer_params": SearchParameters}

    def _defaults(self) -> None:
        self.nprobe = 1
        self.max_codes = 0
        self.max_lists_num = 0
        self.max_empty_result_buckets = 0
        self.ensure_topk_full = False
        self.quantizer_params: SearchParameters | None = None
        self.inverted_list_context: Any = None


IVFSearchParameters = SearchParametersIVF
