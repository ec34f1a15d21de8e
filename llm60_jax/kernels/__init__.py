"""Native kernels: C++ that computes parts of a step on a CPU, where XLA leaves much of it idle.

`processor` knows the instruction sets, and `building` compiles the sources for one of them. Plain
XLA stays the reference, the fallback, and the code for every other device.
"""
