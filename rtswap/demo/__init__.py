"""`rtswap demo`: four processes, a device too small for their models, two ways to share it.

play.py      the whole play, from measuring to the last line
stage.py     the device: how large, how fast, and how the daemon is told
taskset.py   which models take part, and how large they are here
models.py    the models: those of examples/, put here by the build
costs.py     what one forward pass costs beside a copy (runs in the clients)
calibrate.py costs to periods and deadlines (pure)
client.py    one process with one model
daemon.py    the daemon as a child process, also of tests and benchmarks
processes.py the clients as child processes
acts.py      what came of the same releases under one discipline
live.py      what goes wrong in real life: a client killed, a model too many
tally.py     job records as numbers per task (pure)
verdict.py   what was wrong, and the exit status that follows
replay.py    the same tasks in virtual time
picture.py   both timelines as one PNG
report.py    tables for the terminal, report.json
"""
