"""Native kernels: C++ that computes parts of a step on a CPU, where XLA leaves much of it idle.

`processor` knows the instruction sets, `building` compiles the sources for one of them, and
`choice` decides whether they are used (`train.kernels`). Plain XLA stays the reference, the
fallback, and the code for every other device.
"""
