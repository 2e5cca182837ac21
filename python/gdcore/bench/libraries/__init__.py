"""The contestants: how each library does the computation of each suite.

A library is a class that is made with a number of threads. It has a method for each job it does
(`Case.job`: as a rule, a suite), which gets the case and its inputs, does whatever a user of it
would do once (tensors, compiled functions, room for the result), and returns a function
``run(repeats)``: this one is timed, and returns the outputs of its last repeat. A library that is
not installed raises ImportError when made; one that does not do a size raises `Unsupported`.
"""
