"""faiss reads what faiss_torch writes, and the other way round; nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest

import faiss_torch

K = 3


#: Samples in which faiss's hash tables have a say: it writes their entries in an order of its own, and in
#: another one after reading them back. This library keeps the order it read.
HASHED = ("ivf_hashtable", "ivf_dedup_instances")


def one_id_for_equal_vectors(ids):
    """In ivf_dedup_instances the ids i, i + 5 and i + 10 stand for one vector, in the hash table's order."""
    return np.where((ids >= 0) & (ids < 15), ids % 5, ids)


def search_both_alike(mine, theirs, queries):
    for index in (mine, theirs):
        if hasattr(index, "nprobe"):
            index.nprobe = 4
    D, I = mine.search(queries, K)
    D_ref, I_ref = theirs.search(queries, K)
    if "Dedup" in type(mine).__name__:
        I, I_ref = one_id_for_equal_vectors(I), one_id_for_equal_vectors(I_ref)
    np.testing.assert_array_equal(I, I_ref)
    np.testing.assert_allclose(D, D_ref, rtol=1e-5, atol=1e-6)


def queries_for(index, samples):
    return samples.vectors(5, seed=9, d=index.d)


@pytest.mark.parametrize("name", HASHED)
def test_hash_tables_hold_the_same_entries(faiss_cpu, samples, name, written):
    """Where the order differs, the parts before and behind do not, and the entries are the same."""
    mine = written(samples.SAMPLES[name](faiss_torch))
    theirs = faiss_cpu.serialize_index(samples.SAMPLES[name](faiss_cpu)).tobytes()
    begin, end = theirs.index(b"IxF2"), theirs.index(b"ilar")
    begin += 4 + 33 + 8 + 4 * 20 + 1 + 8 + 8  # the quantizer, then type, size of array, size of the table
    assert (mine[:begin], mine[end:]) == (theirs[:begin], theirs[end:])
    pairs, expected = (np.frombuffer(data[begin:end], "int64") for data in (mine, theirs))
    assert sorted(map(tuple, pairs.reshape(-1, 2))) == sorted(map(tuple, expected.reshape(-1, 2)))


def test_both_build_the_same_bytes(faiss_cpu, samples, sample, written):
    if sample in HASHED:
        pytest.skip("the order of a hash table's entries is faiss's own")
    build = samples.SAMPLES[sample]
    assert written(build(faiss_torch)) == faiss_cpu.serialize_index(build(faiss_cpu)).tobytes()


def test_reading_what_faiss_wrote_and_writing_it_again(faiss_cpu, samples, sample, read_bytes, written):
    data = faiss_cpu.serialize_index(samples.SAMPLES[sample](faiss_cpu)).tobytes()
    assert written(read_bytes(data)) == data


def test_searching_what_faiss_wrote(faiss_cpu, samples, searchable, read_bytes):
    theirs = samples.SAMPLES[searchable](faiss_cpu)
    data = faiss_cpu.serialize_index(theirs)
    mine = read_bytes(data)
    # IndexFlat1D becomes another class in a file: compare with what faiss reads
    search_both_alike(mine, faiss_cpu.deserialize_index(data), queries_for(mine, samples))


def test_faiss_searches_what_was_written(faiss_cpu, samples, searchable, tmp_path):
    mine = samples.SAMPLES[searchable](faiss_torch)
    path = str(tmp_path / "index")
    faiss_torch.write_index(mine, path)
    theirs = faiss_cpu.read_index(path)
    search_both_alike(faiss_torch.read_index(path), theirs, queries_for(mine, samples))


def test_faiss_writes_again_what_was_written(faiss_cpu, samples, sample, written):
    if sample in HASHED:
        pytest.skip("the order of a hash table's entries is faiss's own")
    data = written(samples.SAMPLES[sample](faiss_torch))
    again = faiss_cpu.serialize_index(faiss_cpu.deserialize_index(np.frombuffer(data, "uint8"))).tobytes()
    assert again == data


def test_attributes_come_back(faiss_cpu, samples, searchable, read_bytes):
    theirs = faiss_cpu.deserialize_index(faiss_cpu.serialize_index(samples.SAMPLES[searchable](faiss_cpu)))
    mine = read_bytes(faiss_cpu.serialize_index(theirs))
    assert type(mine).__name__ == type(theirs).__name__
    names = ["d", "ntotal", "is_trained", "metric_type", "metric_arg", "verbose"]
    names += [name for name in ("code_size", "own_fields") if hasattr(theirs, name)]
    if hasattr(theirs, "id_map"):
        np.testing.assert_array_equal(mine.id_map.array, faiss_cpu.vector_to_array(theirs.id_map))
        assert type(mine.index).__name__ == type(faiss_cpu.downcast_index(theirs.index)).__name__
    if hasattr(theirs, "nprobe"):
        names += ["nlist", "nprobe", "own_invlists"]
        assert mine.direct_map.type == theirs.direct_map.type
        assert type(mine.quantizer).__name__ == type(faiss_cpu.downcast_index(theirs.quantizer)).__name__
        for list_no in range(theirs.nlist):
            n = theirs.invlists.list_size(list_no)
            assert mine.invlists.list_size(list_no) == n
            ids = faiss_torch.rev_swig_ptr(mine.invlists.get_ids(list_no), n)
            np.testing.assert_array_equal(ids, faiss_cpu.rev_swig_ptr(theirs.invlists.get_ids(list_no), n))
    assert {name: getattr(mine, name) for name in names} == {name: getattr(theirs, name) for name in names}


@pytest.mark.parametrize("name", ["ivf_array_map", "ivf_hashtable"])
def test_direct_maps_still_find_vectors(faiss_cpu, samples, name, read_bytes):
    theirs = samples.SAMPLES[name](faiss_cpu)
    mine = read_bytes(faiss_cpu.serialize_index(theirs))
    key = 3 if name == "ivf_array_map" else 3 * 37 + 100
    np.testing.assert_array_equal(mine.reconstruct(key), theirs.reconstruct(key))


@pytest.mark.parametrize(
    "name", ["ivf_l2", "ivf_hashtable", "ivf_sparse", "ivf_dedup_instances", "flat_l2", "id_map", "id_map_ivf"]
)
def test_an_index_goes_on_after_reading(faiss_cpu, samples, name, read_bytes):
    """What is added after reading lands where it lands in faiss."""
    theirs = faiss_cpu.deserialize_index(faiss_cpu.serialize_index(samples.SAMPLES[name](faiss_cpu)))
    mine = read_bytes(faiss_cpu.serialize_index(samples.SAMPLES[name](faiss_cpu)))
    more = samples.vectors(30, seed=4)
    if name == "flat_l2":
        theirs.add(more)
        mine.add(more)
    else:
        theirs.add_with_ids(more, np.arange(30) + 5000)
        mine.add_with_ids(more, np.arange(30) + 5000)
    assert mine.ntotal == theirs.ntotal
    search_both_alike(mine, theirs, samples.vectors(5, seed=9))


def test_instances_keep_their_order(read_bytes, written, golden):
    data = (golden / "ivf_dedup_instances.bin").read_bytes()
    index = read_bytes(data)
    assert sorted(index.instances) == [0, 1, 2, 3, 4]
    assert sum(len(others) for others in index.instances.values()) == 10
    assert written(index) == data


def test_a_missing_invlists_block_is_said(read_bytes, golden, capsys):
    index = read_bytes((golden / "ivf_without_lists.bin").read_bytes())
    assert index.invlists is None
    assert "inverted lists not stored" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ivf_l2", "ivf_sparse", "ivf_empty"])
def test_inverted_lists_alone(faiss_cpu, samples, name, tmp_path):
    theirs, mine = samples.SAMPLES[name](faiss_cpu), samples.SAMPLES[name](faiss_torch)
    writer, their_writer = faiss_torch.VectorIOWriter(), faiss_cpu.VectorIOWriter()
    faiss_torch.write_InvertedLists(mine.invlists, writer)
    faiss_cpu.write_InvertedLists(theirs.invlists, their_writer)
    data = faiss_torch.vector_to_array(writer.data)
    np.testing.assert_array_equal(data, faiss_cpu.vector_to_array(their_writer.data))
    reader = faiss_torch.VectorIOReader()
    faiss_torch.copy_array_to_vector(data, reader.data)
    lists = faiss_torch.read_InvertedLists(reader)
    assert [lists.list_size(i) for i in range(lists.nlist)] == [
        theirs.invlists.list_size(i) for i in range(theirs.nlist)
    ]
