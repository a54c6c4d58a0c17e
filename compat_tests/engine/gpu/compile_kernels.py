"""Compile all kernels for a GPU that need not be here: python compile_kernels.py cuda 90 32.

Prints the name and the bytes of shared memory of each kernel in each of its forms.
"""

import sys
from collections.abc import Iterator
from typing import Any

try:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
except ImportError:
    sys.exit("no such compiler")

from faiss_torch.kernels import (
    block_minima,
    block_rows,
    centroid_update,
    hamming,
    list_minima,
    nearest,
    nearest_exact,
    order,
    rounding,
    smallest,
    tuning,
)

#: Types of arguments by their names; the others are int32.
TYPES = {
    "h_ptr": "*fp32",
    "facts_ptr": "*fp32",
    "labels_ptr": "*i64",
    "order_ptr": "*i64",
    **{f"{name}_ptr": "*i64" for name in ("begins", "starts", "limits", "names", "firsts", "ends", "ids", "positions")},
    "active_ptr": "*i1",
    "rounding": "fp32",
    "least": "fp32",
    "largest": "fp32",
    "missing": "fp32",
    "numbering": "fp32",
    "rounded_ptr": "*fp16",
    "keys_ptr": "*i16",
    "shift_ptr": "*fp32",
    "largest_ptr": "*fp32",
    **{
        f"{name}_ptr": "*i32"
        for name in ("left", "count", "again", "again_count", "pieces", "counts", "columns", "lengths", "block_counts")
    },
    "double_rounding": "fp32",
    "exact_ptr": "*fp32",
    **{
        f"{name}_ptr": "*fp32"
        for name in (
            *("x", "c", "minima", "halves", "norms", "bias", "values", "bounds", "distances", "thresholds"),
            *("centroids", "weights", "sums", "sizes", "costs", "parts", "out"),
        )
    },
}
MULTIPLES_OF_16 = ("x_ptr", "c_ptr", "h_ptr", "k", "d", "x_batch", "x_stride", "c_batch", "c_stride")

Form = tuple[Any, dict[str, Any], dict[str, Any], dict[str, str]]


def forms() -> Iterator[Form]:
    """Kernels, their constants, options, and types that differ."""
    for row in tuning.NEAREST:
        constants = {
            "BLOCK_N": row.vectors,
            "BLOCK_K": row.centroids,
            "BLOCK_D": row.components,
            "BLOCK_P": 16,
            "ONE_CHUNK": row.widest < 1 << 30,
            "EXPONENT": rounding.EXPONENT_OF_LARGEST,
            "SOME": True,
        }
        options = {"num_warps": row.warps, "num_stages": row.stages}
        yield nearest._nearest_kernel, constants, options, {"c_ptr": "*fp16"}
    sizes = {"BLOCK_P": 16, "EXPONENT": rounding.EXPONENT_OF_LARGEST, "BLOCK_K": block_minima.BLOCKS}
    for row in tuning.MINIMA[3:]:
        types = (("*fp16", tl.float16), ("*bf16", tl.bfloat16), ("*u8", tl.float16))
        for c_type, factor in types if row.widest == 128 else types[:1]:
            constants = sizes | {"BLOCK_N": row.vectors, "BLOCK_D": row.components, "ONE_CHUNK": row.widest < 1 << 30}
            constants |= {"ROWS_OF_BLOCK": 32, "WHOLE": c_type == "*fp16", "FACTOR": factor}
            options = {"num_warps": row.warps, "num_stages": row.stages}
            yield block_minima._minima_kernel, constants, options, {"c_ptr": c_type}
    for row in tuning.LIST_MINIMA[2:]:
        for thresholds, sign in ((False, -1), (True, 1)):
            constants = sizes | {"BLOCK_N": row.vectors, "BLOCK_D": row.components, "ONE_CHUNK": row.widest < 1 << 30}
            constants |= {"WHOLE": True, "FACTOR": tl.float16, "THRESHOLDS": thresholds, "SIGN": sign}
            constants["ROWS_OF_BLOCK"] = tuning.THRESHOLD_ROWS if thresholds else list_minima.MOST_ROWS
            options = {"num_warps": row.warps, "num_stages": row.stages}
            yield list_minima._list_minima_kernel, constants, options, {"c_ptr": "*fp16", "begins_ptr": "*i64"}
    for lengths in (True, False):
        for block in (256, tuning.SMALLEST_VALUES):
            options = {"num_warps": tuning.warps_of(block)}
            constants = {"BLOCK": block, "LENGTHS": lengths, "FIRST": not lengths, "INTEGERS": not lengths}
            yield smallest._smallest_kernel, constants, options, {} if lengths else {"values_ptr": "*i16"}
    yield from hamming_forms()
    for some in (True, False):
        constants = {"BLOCK_R": tuning.DISTANCE_ROWS, "BLOCK_D": 128, "ROWS_OF_BLOCK": 8, "SOME": some, "L2": some}
        yield block_rows._distances_kernel, constants, {}, {"rows_ptr": "*i64"}
        constants = {"BLOCK": 128, "OTHERS": 32, "ROWS_OF_BLOCK": 8, "IDS": some, "L2": some}
        yield block_rows._ranked_kernel, constants, {}, {"left_ptr": "*i8"}
    row = tuning.nearest_blocks(128)
    for choice in (True, False):
        constants = {"BLOCK_K": 32, "BLOCK_D": 128, "EXPONENT": rounding.EXPONENT_OF_LARGEST}
        yield rounding._round_kernel, {**constants, "L2": choice, "SOME": choice}, {}, {}
        sizes = {"BLOCK_N": tuning.EXACT.vectors, "BLOCK_K": row.centroids, "BLOCK_D": min(64, row.components)}
        constants = {**sizes, "BLOCK_P": 16, "EXPONENT": rounding.EXPONENT_OF_LARGEST, "L2": choice}
        yield nearest_exact._pairs_kernel, constants, {"num_warps": tuning.EXACT.warps}, {"c_ptr": "*fp16"}
    exact = tuning.EXACT
    sizes = {"BLOCK_N": exact.vectors, "BLOCK_K": exact.centroids, "BLOCK_D": exact.components}
    sizes |= {"BLOCK_P": 16, "EXPONENT": rounding.EXPONENT_OF_LARGEST}
    yield nearest_exact._float_kernel, sizes, {"num_warps": exact.warps}, {}
    for l2 in (True, False):
        sizes = {"BLOCK_N": exact.double_vectors, "BLOCK_K": exact.double_centroids, "L2": l2}
        yield nearest_exact._double_kernel, sizes, {"num_warps": exact.warps}, {}
    yield order._keys_kernel, {"BLOCK_N": 1024}, {}, {}
    for update in tuning.UPDATE:
        options = {"num_warps": update.warps}
        sizes = {"BLOCK_N": update.vectors, "BLOCK_D": update.components}
        yield centroid_update._clusters_kernel, sizes, options, {}
        for l2 in (True, False):
            constants = {**sizes, "PIECE": update.piece, "WEIGHTS": l2, "COSTS": True, "L2": l2}
            yield centroid_update._pieces_kernel, constants, options, {}
    few = tuning.FEW_UPDATE
    for parts, dtype in ((1, "*fp16"), (3, "*fp32")):
        sizes = {"BLOCK_N": few.vectors, "BLOCK_K": tuning.FEW_CLUSTERS, "BLOCK_D": few.components}
        factor = tl.float16 if parts == 1 else tl.bfloat16
        constants = {
            **sizes,
            "PARTS": parts,
            "FACTOR": factor,
            "TOGETHER": 8,
            "WEIGHTS": parts == 3,
            "COSTS": True,
            "L2": True,
        }
        yield centroid_update._few_kernel, constants, {"num_warps": few.warps}, {"x_ptr": dtype}


def hamming_forms() -> Iterator[Form]:
    """The kernels of binary codes, likewise."""
    row, bits = tuning.HAMMING, {"x_ptr": "*i8", "c_ptr": "*i8", "minima_ptr": "*i16"}
    yield hamming._signs_kernel, {"BLOCK_N": 32, "BLOCK_D": 128}, {}, {"codes_ptr": "*u8", "signs_ptr": "*i8"}
    constants = {"BLOCK_N": row.vectors, "BLOCK_K": row.centroids, "BLOCK_D": row.components}
    options = {"num_warps": row.warps, "num_stages": row.stages}
    yield hamming._products_kernel, constants | {"ROWS_OF_BLOCK": tuning.HAMMING_ROWS}, options, bits
    for word in ("*i32", "*u8"):
        types = bits | {"x_ptr": word, "c_ptr": word}
        constants = {"BLOCK_K": tuning.COUNTED_BLOCKS, "BLOCK_W": 8, "ROWS_OF_BLOCK": tuning.HAMMING_ROWS}
        yield hamming._counted_minima_kernel, constants, {}, types
        constants = {"BLOCK_R": tuning.DISTANCE_ROWS, "BLOCK_W": 8, "ROWS_OF_BLOCK": tuning.HAMMING_ROWS}
        yield hamming._counted_distances_kernel, constants, {}, types


def compiled(form: Form, target: "GPUTarget") -> int:
    """Return the shared memory that a kernel takes: bytes."""
    kernel, constants, options, types = form
    types = {**TYPES, **types}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    attributes = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
        for name in MULTIPLES_OF_16
        if name in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options).metadata.shared


if __name__ == "__main__":
    backend, arch, warp = sys.argv[1:]
    target = GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp))
    for form in forms():
        print(form[0].__name__, compiled(form, target))
