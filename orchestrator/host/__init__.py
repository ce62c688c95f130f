"""What the processes of one host share about a database: the files of its state directory.

`directory` is where they lie. `record` is `run.json`: the leader's `publication` writes it, and
those who wait read in it of their `peers`. `heads` remembers the target for warm starts.

All of it is information and hints. What excludes is the lock, and what decides is the database.
"""
