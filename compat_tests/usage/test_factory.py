"""index_factory: descriptions of indexes."""

import numpy as np
import pytest

DESCRIPTIONS = [
    "Flat",
    "IVF16,Flat",
    "IVF1k,Flat",
    "IVF16,FlatDedup",
    "IVF16(Flat),Flat",
    "IVF16(IVF4,Flat),Flat",
    "IVF16(IVF4(Flat),Flat),Flat",
    "IVF32(IVF16(IVF4,Flat),Flat),Flat",
]


def describe(faiss, index):
    """What the factory decides about an index, as plain values."""
    real = faiss.downcast_index(index)  # `index` stays alive beside it: in faiss it owns the memory
    found = [type(real).__name__, real.d, real.metric_type, real.ntotal, real.is_trained]
    if isinstance(real, faiss.IndexIVF):
        trains_alone = real.quantizer_trains_alone
        found += [
            real.nlist,
            real.nprobe,
            ord(trains_alone) if isinstance(trains_alone, str) else trains_alone,
            real.cp.spherical,
            real.own_fields,
            real.own_invlists,
            real.by_residual,
            real.code_size,
            describe(faiss, real.quantizer),
        ]
    return found


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT", "METRIC_L1"])
@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_the_same_index_as_faiss(faiss, reference, description, metric):
    number = getattr(faiss, metric)
    expected = describe(reference, reference.index_factory(8, description, number))
    assert describe(faiss, faiss.index_factory(8, description, number)) == expected


def test_the_metric_is_L2_unless_asked_for(faiss):
    index = faiss.index_factory(8, "Flat")
    assert index.metric_type == faiss.METRIC_L2
    assert type(index) is faiss.IndexFlat


def test_without_lists_of_its_own(faiss):
    index = faiss.index_factory(8, "IVF16,Flat", faiss.METRIC_L2, False)
    assert not index.own_invlists
    assert index.invlists is None


@pytest.mark.parametrize(
    "description",
    ["", "Foo", "IVF,Flat", "IVF16", "IVF16,", "IVF16,Foo", "IVF16,Flat,PQ8", "IVF16(Foo),Flat", "IVF16(Flat,Flat",
     "IVF16)Flat", "IVF16((Flat)),Flat", "IVF16()Flat", "(Flat)", "flat", "IVF99999999999999999999,Flat"],
)  # fmt: skip
def test_what_is_not_understood(faiss, description):
    with pytest.raises(RuntimeError):
        faiss.index_factory(8, description)


@pytest.mark.parametrize(
    ("description", "part"),
    [
        ("IVF256,Flat,PQ8", "'Flat,PQ8' in 'IVF256,Flat,PQ8'"),
        ("IVFx,Flat", "'IVFx' in 'IVFx,Flat'"),
        ("IVF16(HNSW32),Flat", "'HNSW32'"),
        ("IVF16(IVF4,PQ8),Flat", "'PQ8' in 'IVF4,PQ8'"),
        ("IVF16", "behind a comma is missing in 'IVF16'"),
        ("IVF16(Flat", "unbalanced parentheses"),
    ],
)
def test_the_message_names_the_part(ours, description, part):
    with pytest.raises(RuntimeError, match="could not parse index string") as caught:
        ours.index_factory(8, description)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        (8, b"Flat"), ("8", "Flat"), (8.0, "Flat"), (np.float32(8), "Flat"), (None, "Flat"), (2**31, "Flat"), (8,), (),
        (8, "Flat", "1"), (8, "Flat", 1.0), (8, "Flat", None), (8, "Flat", 2**31), (8, "IVF4,Flat", 1, 0),
        (8, "IVF4,Flat", 1, None), (8, "IVF4,Flat", 1, True, True),
    ],
)  # fmt: skip
def test_other_types_of_arguments(faiss, arguments):
    with pytest.raises(TypeError):
        faiss.index_factory(*arguments)


@pytest.mark.parametrize("description", [d for d in DESCRIPTIONS if d != "IVF1k,Flat"])
def test_indexes_from_descriptions_work(faiss, description):
    x = np.random.RandomState(0).rand(600, 8).astype("float32")
    index = faiss.index_factory(8, description)
    index.train(x)
    index.add(x)
    if hasattr(index, "nprobe"):
        faiss.ParameterSpace().set_index_parameters(index, "nprobe=64")
        if "(IVF" in description:
            faiss.ParameterSpace().set_index_parameters(index, "quantizer_nprobe=64")
    D, I = index.search(x[:20], 3)
    np.testing.assert_array_equal(I[:, 0], np.arange(20))
    np.testing.assert_allclose(D[:, 0], 0, atol=1e-5)


class TestBeyondFaiss:
    def test_spaces_are_passed_over(self, ours):
        assert ours.index_factory(8, " IVF16 ( IVF4, Flat ), Flat ").quantizer.nlist == 4

    def test_keywords(self, ours):
        index = ours.index_factory(d=8, description="IVF16,Flat", metric=ours.METRIC_INNER_PRODUCT, own_invlists=False)
        assert (index.metric_type, index.invlists) == (ours.METRIC_INNER_PRODUCT, None)

    def test_integers_of_numpy(self, ours):
        assert ours.index_factory(np.int64(8), "Flat", np.int64(0)).metric_type == ours.METRIC_INNER_PRODUCT

    @pytest.mark.parametrize("description", [d for d in DESCRIPTIONS if d not in ("IVF1k,Flat", "IVF16(Flat),Flat")])
    def test_reverse(self, ours, description):
        normal = description.replace("IVF4(Flat)", "IVF4")
        assert ours.reverse_index_factory(ours.index_factory(8, description)) == normal

    def test_reverse_of_what_no_description_makes(self, ours):
        with pytest.raises(NotImplementedError, match="object"):
            ours.reverse_index_factory(object())
