"""The catalog: which names exist, in which order they were put, and what makes way for what.

Its functions work inside a `Transaction` of the caller's and never begin or commit one. `engine.store`,
`engine.tree` and `engine.puts` are the callers: one operation of theirs is one transaction.
"""
