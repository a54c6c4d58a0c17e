"""The file of records, which is only ever appended to: measurements of cases, and profiles of single runs."""

from __future__ import annotations

import json
import pathlib
from typing import Any

RECORDS = pathlib.Path(__file__).resolve().parent / "records.jsonl"
THREADS = 2

Record = dict[str, Any]


def append(record: Record, path: pathlib.Path = RECORDS) -> None:
    """Append a record to a file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: pathlib.Path = RECORDS) -> list[Record]:
    """Return all records of a file, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measurements(path: pathlib.Path = RECORDS, rival: str | None = "faiss-cpu") -> dict[str, Record]:
    """Return the last record of each case beside a rival, by the case's name.

    The goals are set for two threads on each side, or beside a GPU for all cores, and for the engine's own choice of
    arithmetic: records made otherwise are left out.
    """
    return {
        record["case"]: record
        for record in read(path)
        if "case" in record
        and record.get("rival", "faiss-cpu") == rival
        and (record["threads"] == THREADS or record["case"].startswith("gpu_"))
        and record.get("arithmetic") is None
    }


def profiles(path: pathlib.Path = RECORDS) -> dict[str, Record]:
    """Return the last profile of each case, by the case's name."""
    return {record["profile"]: record for record in read(path) if "profile" in record}
