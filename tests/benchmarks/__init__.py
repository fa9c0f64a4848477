"""How fast the tool is beside the tools that people use today; `python -m tests.benchmarks` prints
the table.
"""
