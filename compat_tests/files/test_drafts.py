"""Drafts: several writers of one file, and what a killed one leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import faiss_torch
from faiss_torch.io import drafts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows keeps what was left behind")


@pytest.fixture
def index(samples):
    return samples.ivf(faiss_torch)


def leave_a_draft(path, number=0) -> str:
    """The path of a draft whose writer is gone."""
    left = drafts.name_of(str(path), number)
    with open(left, "wb") as file:
        file.write(b"half of an ind")
    return left


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1, 2, 40), (63,)])
@pytest.mark.parametrize("mode", [0o600, 0o444])
def test_what_was_left_behind_is_removed(index, tmp_path, written, numbers, mode):
    path = tmp_path / "index"
    for number in numbers:
        os.chmod(leave_a_draft(path, number), mode)
    faiss_torch.write_index(index, str(path))
    assert os.listdir(tmp_path) == ["index"]
    assert path.read_bytes() == written(index)


def test_what_belongs_to_others_stays(index, tmp_path):
    left = leave_a_draft(tmp_path / "another index")
    link = drafts.name_of(str(tmp_path / "index"), 3)
    os.symlink("somewhere", link)
    faiss_torch.write_index(index, str(tmp_path / "index"))
    assert sorted(os.listdir(tmp_path)) == sorted(["index", os.path.basename(left), os.path.basename(link)])


def test_two_writers_at_once(index, samples, tmp_path, written):
    path = str(tmp_path / "index")
    other = samples.flat(faiss_torch)
    draft_path, draft = drafts.create(path, 0o600)
    faiss_torch.write_index(index, path)
    assert drafts.stands_at(draft, draft_path)
    draft.close()
    faiss_torch.write_index(other, path)
    assert os.listdir(tmp_path) == ["index"]
    assert (tmp_path / "index").read_bytes() == written(other)


def test_a_draft_that_somebody_removes_is_written_all_the_same(index, tmp_path, written, monkeypatch):
    write_bytes = faiss_torch.FileIOWriter.write_bytes

    def removing(self, data):
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        write_bytes(self, data)

    monkeypatch.setattr(faiss_torch.FileIOWriter, "write_bytes", removing)
    faiss_torch.write_index(index, str(tmp_path / "index"))
    assert os.listdir(tmp_path) == ["index"]
    assert (tmp_path / "index").read_bytes() == written(index)


def test_a_writer_that_fails_removes_nothing_of_anothers(index, tmp_path, monkeypatch):
    path, others = str(tmp_path / "index"), []

    def failing(self, data):
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        others.append(drafts.create(path, 0o600))  # under the same name
        raise OSError("simulated")

    monkeypatch.setattr(faiss_torch.FileIOWriter, "write_bytes", failing)
    with pytest.raises(OSError, match="simulated"):
        faiss_torch.write_index(index, path)
    [(draft_path, draft)] = others
    assert drafts.stands_at(draft, draft_path)
    draft.close()


def test_names_are_short(index, tmp_path):
    path = tmp_path / ("é" * 127)
    faiss_torch.write_index(index, str(path))
    faiss_torch.write_index(index, str(path))
    assert os.listdir(tmp_path) == [path.name]


# Children write indexes of different sizes to one path until they are killed, while the parent reads. This goes on
# until some of them were killed while they wrote.
COMPETITION = """
import os, random, signal, sys
import numpy as np
import faiss_torch as faiss

path = sys.argv[1]
folder = os.path.dirname(path)
indexes = []
for n in (10, 3_000, 200_000):
    index = faiss.IndexFlatL2(4)
    index.add(np.full((n, 4), n, "float32"))
    indexes.append(index)
faiss.write_index(indexes[0], path)
for attempt in range(50):
    children = []
    for i in range(8):
        child = os.fork()
        if not child:
            while True:
                faiss.write_index(random.choice(indexes), path)
        children.append(child)
    for i in range(20):
        index = faiss.read_index(path)
        assert (faiss.vector_to_array(index.codes).view("float32") == index.ntotal).all()
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    left = os.listdir(folder)
    if len(left) > 1:
        break
assert len(left) > 1
faiss.write_index(indexes[0], path)
assert faiss.read_index(path).ntotal == 10
print(os.listdir(folder))
"""


@pytest.mark.slow
def test_competing_writers_that_are_killed(tmp_path):
    path = str(tmp_path / "index")
    done = subprocess.run([sys.executable, "-c", COMPETITION, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "['index']"), done.stderr
