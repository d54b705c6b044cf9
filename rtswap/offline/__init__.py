"""Planning and simulating a set of tasks without a GPU and without a daemon.

Both ask the code that decides at run time: the planner and the test of the arbiter, and the arbiter
itself in virtual time.
"""
