"""Compile the kernel of the closest centroid for a GPU that need not be here: python compile_nearest.py cuda 90 32.

Prints each row of the tuning table's width and the bytes of shared memory that its kernel takes.
"""

import sys

try:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
except ImportError:
    sys.exit("no such compiler")

from faiss_torch.kernels import nearest, tuning

POINTERS = {"x_ptr": "*fp32", "c_ptr": "*fp16", "h_ptr": "*fp32", "facts_ptr": "*fp32"}
TYPES = {**POINTERS, "labels_ptr": "*i64", "certain_ptr": "*i8", "rounding": "fp32"}
MULTIPLES_OF_16 = (*POINTERS, "k", "d", "x_batch", "x_stride", "c_batch", "c_stride")


def compile_row(row: tuning.NearestBlocks, target: "GPUTarget") -> int:
    """Return the shared memory that the kernel of a row takes: bytes."""
    kernel = nearest._nearest_kernel
    constants = {
        "BLOCK_N": row.vectors,
        "BLOCK_K": row.centroids,
        "BLOCK_D": row.components,
        "ONE_CHUNK": row.widest < 1 << 30,
        "EXPONENT": nearest._EXPONENT,
    }
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in MULTIPLES_OF_16}
    source = ASTSource(kernel, signature, constants, attributes)
    options = {"num_warps": row.warps, "num_stages": row.stages}
    return triton.compile(source, target=target, options=options).metadata.shared


if __name__ == "__main__":
    backend, arch, warp = sys.argv[1:]
    target = GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp))
    for row in tuning.NEAREST:
        print(row.widest, compile_row(row, target))
