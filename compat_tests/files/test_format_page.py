"""docs/format.md is what the records print, and the records cover what is offered."""

from __future__ import annotations

from pathlib import Path

import faiss_torch
from faiss_torch.io.describe import page
from faiss_torch.io.not_offered import INDEXES_NOT_OFFERED
from faiss_torch.io.records.table import RECORDS, record_for

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def test_the_committed_page_is_the_printed_one():
    assert PAGE.read_text() == page(), "run python -m faiss_torch.io.describe > docs/format.md"


def test_every_fourcc_is_on_the_page():
    text = page()
    for record in RECORDS:
        assert f"`{record.fourcc}`" in text
    for fourcc in INDEXES_NOT_OFFERED:
        assert f"`{fourcc.decode()}`" in text


def test_no_fourcc_is_both_offered_and_refused():
    fourccs = [record.fourcc for record in RECORDS]
    assert len(set(fourccs)) == len(fourccs)
    assert not {fourcc.encode() for fourcc in fourccs} & set(INDEXES_NOT_OFFERED)
    assert all(len(fourcc) == 4 for fourcc in [*fourccs, *INDEXES_NOT_OFFERED])


def test_every_record_is_written_and_read_as_what_it_says(samples):
    """Each record that is not a legacy one is the record of some sample."""
    used = {record_for(build(faiss_torch)) for name, build in samples.SAMPLES.items() if name != "null"}
    assert used == {record for record in RECORDS if not record.legacy}
