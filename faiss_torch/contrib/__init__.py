"""Client code that faiss ships beside its library, in faiss's shape: evaluation, exhaustive search, data
sets, tools.

These modules use the public names of the package alone, taken by ``from .. import``, and so work under the
name ``faiss.contrib`` too.
"""
