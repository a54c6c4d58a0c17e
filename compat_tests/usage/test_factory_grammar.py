"""The grammar of index_factory: what faiss reads is read, and made where its types are offered."""

import itertools
import random
import re

import pytest

import faiss_torch
from faiss_torch import factory, kinds
from faiss_torch.gaps import GAPS
from faiss_torch.kinds import KINDS, NOT_OFFERED, Kind, Part

D = 8

#: What faiss understands.
UNDERSTOOD = """
Flat IDMap,Flat Flat,IDMap IDMap2,Flat Flat,IDMap2 IDMap,Flat,IDMap2 IDMap2,Flat,IDMap IDMap,IDMap2,Flat
Flat,IDMap2,IDMap IDMap2,IDMap2,Flat IDMap,IVF16,Flat IVF16,Flat,IDMap2 IVF4(Flat),Flat,IDMap
IVF16,Flat IVF16,FlatDedup IVF1k,Flat IVF00016,Flat IVF16(Flat),Flat IVF16(IVF4,Flat),Flat IVF16(IDMap,Flat),Flat
IVF16(IVF4(IVF2,Flat),Flat),FlatDedup IVF1k(Flat),Flat IVF16(Flat,IDMap2),FlatDedup IDMap,IVF16(IVF4,Flat),Flat

PCA4,Flat PCAR4,Flat PCAW4,Flat PCAWR4,Flat L2norm,Flat L2Norm,Flat RR,Flat RR4,Flat HR,Flat HR5,Flat ITQ,Flat
ITQ4,Flat OPQ2,Flat OPQ2_4,Flat Pad16,Flat PCA4,IDMap,Flat PCA4,Flat,IDMap PCA4,L2norm,Flat PCA4,IVF16,Flat
PCA4,RR,IDMap2,IVF16,Flat,RFlat PCA4,IVF16(Flat),Flat MinMax,Flat MinMax,SQ8 MinMaxFP16,SQ8 MinMax,Flat,IDMap
Flat,RFlat Flat,Refine(Flat) Flat,Refine(SQ8) Flat,RefinePanorama(Flat) Flat,RFlat,RFlat IVF16,Flat,RFlat
IVF16,PQ2,Refine(SQ8) Flat,Refine(Flat),Refine(Flat) IDMap,PQ2x4fs,RFlat IVF16,Flat,Refine(PQ2x12),IDMap
PCA4,IVF16,Flat,RFlat,IDMap2 Flat,Refine(IVF4(Flat),Flat)

IVF16_HNSW,Flat IVF16_HNSW32,Flat IVF16_HNSW32,PQ2 IVF16_NSG16,Flat IVF16(SQ8),Flat IVF16(PQ2,RFlat),Flat
IVF16(Flat,RFlat),FlatDedup IVF16(IVF4(IVF2,Flat),Flat),SQ8 IVF16(HNSW32),Flat IVF16(PCA4,Flat),Flat
IMI2x4,Flat IMI2x4,PQ2 Residual4,PQ2 Residual2x4,PQ2 Residual4,PQ2x4

IVF16,FlatPanorama IVF16,FlatPanorama4 IVF16,FlatPanorama4_64 IVF16,FlatPanorama_64 IVF16,SQ8 IVF16,SQ4 IVF16,SQ6
IVF16,SQfp16 IVF16,SQbf16 IVF16,SQ8_direct IVF16,SQ8_direct_signed IVF16,SQ0 IVF16,SQtqmse1 IVF16,SQtqmse2
IVF16,SQtqmse3 IVF16,SQtqmse4 IVF16,SQtqmse8 IVF16,SQtq2 IVF16,SQtq3 IVF16,SQtq4 IVF16,SQtq5
IVF16,PQ2 IVF16,PQ2x4 IVF16,PQ2np IVF16,PQ2x4np IVF16,PQ2+4 IVF16,PQ2x4fs IVF16,PQ2x4fsr IVF16,PQ2x4fs_64
IVF16,PQ2x4fsr_64 IVF16,RQ2x4 IVF16,RQ2x4_2x5 IVF16,RQ2x4_Nqint8 IVF16,LSQ2x4 IVF16,PRQ2x2x4 IVF16,PLSQ2x2x4
IVF16,RQ2x4fsr_64_Nrq2x4 IVF16,LSQ4x4fs_Nlsq2x4 IVF16,PRQ2x2x4fs_Nrq2x4 IVF16,PLSQ2x2x4fsr_Nlsq2x4 IVF16,ITQ8,SH1.2
IVF16,ITQ,SH IVF16,PCA4,SH-1e10g IVF16,PCAR4,SHc IVF16,RaBitQ IVF16,RaBitQ4 IVF16,RaBitQfs IVF16,RaBitQfs4
IVF16,RaBitQfs_64 IVF16,RaBitQfs4_64 IVF16,EDEN IVF16,EDEN4 IVF16,EDEN4BIASED IVF16,EDENBIAS

FlatL2Panorama4 FlatL2Panorama4_64 FlatIPPanorama4 LSH LSHr LSHt LSHrt LSH4 ZnLattice2x5_4 SQ8 SQ4 SQ6 SQfp16 SQbf16
SQ8_direct SQ8_direct_signed SQ0 SQtqmse4 SQtq3 PQ2 PQ2x4 PQ2np PQ2x4np PQ2x4fs PQ2x4fs_64 PQ2x12 RQ2x4 RQ2x4_1x5
RCQ2x4 RQ2x4_Nfloat RCQ2x4_Nfloat LSQ2x4 LSCQ2x4 PRQ2x2x4 PLSQ2x2x4_Nnone RQ4x4fs_Nrq2x4 LSQ4x4fs_Nlsq2x4
PRQ2x2x4fs_Nrq2x4 PLSQ2x2x4fs_Nlsq2x4 RaBitQ RaBitQ4 RaBitQ9 RaBitQfs RaBitQfs4_64 EDEN EDEN2 EDEN4BIASED
HNSW HNSW32 HNSW32,Flat HNSW32_Flat HNSW32, HNSW32_ HNSW,SQ8 HNSW32_SQ8 HNSW32,PQ2 HNSW32,PQ2x4np HNSW32,4+PQ2
HNSW32,2x4+PQ2 HNSW32,FlatPanorama HNSW32,FlatPanorama4 HNSW32,RaBitQ HNSW32_RaBitQ4
NSG NSG16 NSG16,Flat NSG16,PQ2 NSG16_SQ8
"""

#: What it does not.
NOT_UNDERSTOOD = """
PCARW4,Flat PCA,Flat PCA4 PCA4, l2norm,Flat OPQ,Flat OPQ2_,Flat Pad,Flat IVF16 IVF16, IVF,Flat IVF16K,Flat
IVF16_NSG,Flat IVF16_Foo,Flat IVF16(),Flat IVF16(Foo),Flat IVF16((Flat)),Flat IVF16(Flat)(Flat),Flat IVF16(Flat,Flat
IVF16)Flat IVF16(Flat)),Flat IVF16(Index0),Flat IVF+16,Flat IVF-4,Flat IVF4.5,Flat IVF16_HNSW32(Flat),Flat
IVF16(Flat)_HNSW32,Flat IMI2x4 IMI3x4,Flat Residual4,Flat Residual4 Residual4,PQ2np IVF16,SQ5 IVF16,PQ2x8fs IVF16,PQ
IVF16,SH IVF16,RaBitQ0 IVF16,EDEN9 IVF16,LSH IVF16,HNSW32 IVF16,Foo IVF16,Flat,PQ2 IVF16,IVF16,Flat IVF16,Flat,
IVF16,,Flat IVF16FlatX FlatL2Panorama FlatPanorama4 LSHtr ZnLattice2x5 SQtq1 SQ SQ16 PQ2x4fsr LSQ2x4_1x5 HNSW32,Foo
HNSW32,EDEN HNSW32,RaBitQ0 HNSW32_Flat,Flat HNSWx NSG16,Foo NSG16,RaBitQ NNDescent16 SVSFlat MinMax MinMax, Flat,MinMax
RFlat ,RFlat Flat,Refine Flat,Refine() Flat,Refine(Foo) Flat,RFlat(Flat) Foo foo,bar flat (Flat) Flat, ,Flat , ,,
Flat,Flat Flat,PQ2 IVF99999999999999999999,Flat PQ99999999999 BFlat BIVF16 IDMap IDMap, ,IDMap IDMap3,Flat IDMap2
Flat,Foo,IDMap FooFlat FlatFoo Sqfp16 PQ2X4 EDEN9 EDEN2BIASEDX RaBitQ0 RaBitQfs_ LSQ2x4fsr RQ2x8fs
"""

#: Words of which descriptions are put together at random.
WORDS = """
Flat IVF16 IVF4_HNSW8 IVF4(Flat) IVF4(SQ8,IDMap) IDMap IDMap2 PCA4 L2norm RFlat Refine(Flat) SQ8 PQ2 HNSW8 Foo ITQ4 SH
FlatDedup IMI2x2 Residual4 MinMax
"""

OFFERED = {kind.cls.__name__ for kind in KINDS}


def types_in(faiss, index):
    """The names of the types that an index of faiss-cpu is made of, its own first."""
    real = faiss.downcast_index(index)
    yield type(real).__name__
    if isinstance(real, faiss.IndexPreTransform):
        for number in range(real.chain.size()):
            yield type(faiss.downcast_VectorTransform(real.chain.at(number))).__name__
    for name in ("index", "quantizer", "base_index", "refine_index", "storage"):
        inner = getattr(real, name, None)
        if inner is not None:
            yield from types_in(faiss, inner)


def facts(faiss, index):
    """What the factory decides about an index of offered types, as plain values."""
    real = faiss.downcast_index(index)
    found = [type(real).__name__, real.d, real.metric_type, real.ntotal, real.is_trained]
    if isinstance(real, faiss.IndexIVF):
        found += [real.nlist, real.code_size, real.own_fields, facts(faiss, real.quantizer)]
    if isinstance(real, faiss.IndexIDMap):
        found += [real.own_fields, facts(faiss, real.index)]
    return found


def compare(reference, text, metric="METRIC_L2"):
    """Hold what a description makes against faiss-cpu's; return the message where ours makes nothing."""
    number = getattr(reference, metric)
    try:
        theirs = reference.index_factory(D, text, number)
    except RuntimeError:
        with pytest.raises(RuntimeError) as caught:
            faiss_torch.index_factory(D, text, number)
        return str(caught.value)
    types = list(types_in(reference, theirs))
    if set(types) <= OFFERED:
        if "SQtq" in text:
            with pytest.raises(NotImplementedError, match="QT_") as caught:
                faiss_torch.index_factory(D, text, number)
            return str(caught.value)
        assert facts(faiss_torch, faiss_torch.index_factory(D, text, number)) == facts(reference, theirs)
        return ""
    with pytest.raises(NotImplementedError) as caught:  # a RuntimeError too
        faiss_torch.index_factory(D, text, number)
    return str(caught.value)


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
@pytest.mark.parametrize("text", UNDERSTOOD.split())
def test_what_faiss_understands(reference, text, metric):
    message = compare(reference, text, metric)
    assert not message or "asks for" in message


@pytest.mark.parametrize("text", ["", *NOT_UNDERSTOOD.split()])
def test_what_faiss_does_not_understand(reference, text):
    with pytest.raises(RuntimeError):
        reference.index_factory(D, text)
    message = compare(reference, text)
    assert message.startswith("could not parse index string: ")
    assert "asks for" not in message


def understands(reference, text):
    try:
        return reference.index_factory(D, text) is not None
    except RuntimeError:
        return False


def test_words_put_together_at_random(reference):
    generator = random.Random(1)
    for length in [2, 3, 4] * 200:
        text = ",".join(generator.choices(WORDS.split(), k=length))
        message = compare(reference, text)
        # faiss cannot read parentheses behind MinMax
        if not understands(reference, text) and not (text.startswith("MinMax") and "(" in text):
            assert "asks for" not in message, text


@pytest.fixture(scope="module")
def refused(reference):
    """The messages about what is not offered, and the types that faiss makes of the same text."""
    found = []
    for text, metric in itertools.product(UNDERSTOOD.split(), (reference.METRIC_L2, reference.METRIC_INNER_PRODUCT)):
        try:
            types = set(types_in(reference, reference.index_factory(D, text, metric)))
        except RuntimeError:  # not for this metric
            continue
        try:
            faiss_torch.index_factory(D, text, metric)
        except NotImplementedError as error:
            found.append((str(error), types))
    return found


@pytest.mark.parametrize("row", NOT_OFFERED, ids=lambda row: row.name)
def test_what_is_not_offered_is_what_faiss_makes(refused, row):
    made = [(message, types) for message, types in refused if f"asks for {row.name}, " in message]
    assert made, "UNDERSTOOD has no text of this row"
    for message, types in made:
        # faiss's Python has no class of its own for one of them
        assert ("IndexHNSW" if row.name == "IndexHNSW2Level" else row.name) in types, message
        assert GAPS[row.name] in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("PCA64,IVF16,Flat", "'PCA64' in 'PCA64,IVF16,Flat' asks for PCAMatrix"),
        ("IVF16_HNSW32,Flat", "'HNSW32' in 'IVF16_HNSW32,Flat' asks for IndexHNSWFlat"),
        ("IVF16(IVF4,PQ2),Flat", "'PQ2' in 'IVF4,PQ2' asks for IndexIVFPQ"),
        ("IVF16,Flat,Refine(SQ8)", "'Refine(SQ8)' in 'IVF16,Flat,Refine(SQ8)' asks for IndexRefine"),
        ("IDMap,Flat,RFlat", "'RFlat' in 'Flat,RFlat' asks for IndexRefineFlat"),
        ("IMI2x8,Flat", "'IMI2x8' in 'IMI2x8,Flat' asks for MultiIndexQuantizer"),
        # what faiss does not understand either comes first
        ("PCA64,Foo", "could not understand 'Foo'"),
        ("PQ8,Foo", "could not understand 'Foo' behind 'PQ8' in 'PQ8,Foo'"),
        ("IVF16(SQ8),Foo", "could not understand 'Foo' in 'IVF16(SQ8),Foo'"),
        ("IVF16(Foo),SQ8", "could not understand 'Foo'"),
        ("Flat,Refine(Foo)", "could not understand 'Foo'"),
        ("Flat,Flat", "could not understand 'Flat' behind 'Flat'"),
        ("IDMap,", "there is no index beside 'IDMap' in 'IDMap,'"),
        ("Flat,", "a word beside a comma is missing in 'Flat,'"),
        ("", "it is empty"),
        ("IMI2x8", "the code behind a comma is missing in 'IMI2x8'"),
        ("PQ99999999999", "99999999999 is too large a number"),
        ("IVF" + "9" * 5000 + ",Flat", "is too large a number"),
    ],
)
def test_the_message_says_what_is_wrong(ours, text, part):
    with pytest.raises(RuntimeError, match="could not parse index string: ") as caught:
        ours.index_factory(64, text)
    assert part in str(caught.value)
    assert isinstance(caught.value, NotImplementedError) == ("asks for" in part)


@pytest.mark.parametrize("text", ["IDMap," * 2_000 + "Flat", "IVF4(" * 2_000 + "Flat" + "),Flat" * 2_000])
def test_what_is_nested_too_deep(ours, text):
    with pytest.raises(RuntimeError):
        ours.index_factory(D, text)


class Rounded(faiss_torch.IndexFlat):
    """Stands for a type to come."""


class IVFRounded(faiss_torch.IndexIVFFlat):
    """Stands for a code to come."""


class Graph(faiss_torch.IndexFlat):
    """Stands for a quantizer that is written with an underscore."""


class Refined(faiss_torch.IndexIDMap):
    """Stands for an index that two others make up."""

    def __init__(self, base_index, refine_index):
        super().__init__(base_index)
        self.referenced_objects = [refine_index]


ROWS = (
    Kind(
        Rounded,
        Part.WHOLE,
        "LSH(8|4)",
        build=lambda wanted: Rounded(wanted.d, wanted.metric_type),
        describe=lambda index: "LSH8",
    ),
    Kind(
        IVFRounded,
        Part.CODE,
        "RaBitQ(8|4)",
        build=lambda wanted: IVFRounded(*kinds.ivf_arguments(wanted), wanted.metric_type, wanted.own_invlists),
        describe=lambda index: f"{kinds.coarse(index)},RaBitQ8",
    ),
    Kind(
        Refined,
        Part.SUFFIX,
        r"Refine\((?P<index>.+)\)",
        build=lambda wanted: Refined(*wanted.inner),
        describe=lambda index: f"{kinds.describe(index.index)},Refine({kinds.describe(index.referenced_objects[0])})",
    ),
    Kind(
        Graph,
        Part.WHOLE,
        "HNSW([0-9]*)",
        build=lambda wanted: Graph(wanted.d, wanted.metric_type),
        describe=lambda index: "HNSW32",
    ),
)


def test_a_row_is_all_that_a_type_needs(ours, monkeypatch):
    for module in (kinds, factory):
        monkeypatch.setattr(module, "KINDS", (*KINDS, *ROWS))
    text = "IDMap,IVF4(LSH8),RaBitQ4,Refine(IVF2,RaBitQ8)"
    index = ours.index_factory(D, text, ours.METRIC_INNER_PRODUCT, False)
    assert type(index) is ours.IndexIDMap
    assert type(index.index) is Refined
    ivf, other = index.index.index, index.index.referenced_objects[0]
    assert (type(ivf), ivf.nlist, type(ivf.quantizer)) == (IVFRounded, 4, Rounded)
    assert (type(other), other.nlist, type(other.quantizer)) == (IVFRounded, 2, ours.IndexFlat)
    assert ivf.metric_type == other.metric_type == ivf.quantizer.metric_type == ours.METRIC_INNER_PRODUCT
    assert ivf.own_invlists  # own_invlists=False is for the outermost index, as in faiss
    assert ours.reverse_index_factory(index) == text.replace("RaBitQ4", "RaBitQ8")
    text = "IVF4_HNSW32,Flat"
    for index in (ours.index_factory(D, text), ours.index_factory(D, "IVF4(HNSW),Flat")):
        assert type(index.quantizer) is Graph
        assert ours.reverse_index_factory(index) == text
    with pytest.raises(NotImplementedError, match="'PQ2' in 'IVF4,PQ2' asks for IndexIVFPQ"):
        ours.index_factory(D, "LSH8,Refine(IVF4,PQ2)")


def test_no_word_has_two_meanings():
    rows = [*KINDS, *NOT_OFFERED]
    patterns = [(row.part, row.pattern) for row in rows if row.part is not Part.NONE]
    assert len(patterns) == len(set(patterns))
    words = {word for text in UNDERSTOOD.split() for word in [text, *text.split(","), text.partition(",")[2]]}
    for word, part in itertools.product(words, Part):
        fitting = [row for row in rows if row.part is part is not Part.NONE and re.fullmatch(row.pattern, word)]
        assert len(fitting) <= 1, (word, fitting)
