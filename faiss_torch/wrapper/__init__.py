"""What programs see because faiss is wrapped C++: pointers, vectors, conversions of arrays, ownership."""
