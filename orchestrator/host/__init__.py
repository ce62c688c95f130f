"""What the processes of one host share about a database: the files of its state directory.

All of it is information and hints. What excludes is the lock, and what decides is the database.
"""
