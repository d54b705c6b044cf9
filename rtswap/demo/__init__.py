"""`rtswap demo`: four processes, a device too small for their models, two ways to share it.

play.py      the whole play, from measuring to the last line
taskset.py   which models take part, and how large they are here
models.py    the models: those of examples/, put here by the build
costs.py     what one forward pass costs beside a copy (runs in the clients)
calibrate.py costs to periods and deadlines (pure)
client.py    one process with one model
daemon.py    the daemon as a child process, also of tests and benchmarks
processes.py the clients as child processes
trace.py     the daemon's trace file as a timeline (pure)
tally.py     job records as numbers per task (pure)
replay.py    the same tasks in virtual time
picture.py   both timelines as one PNG
report.py    tables for the terminal, report.json
"""
