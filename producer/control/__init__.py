"""The control process: announces what is due, brings back what was lost, fires schedules, prunes.

`chores` says what is to be done and how often. Celery beat (`beat`, with redbeat's lock, so that
one of several processes keeps time) puts a message for each into the queue `edict.control`, and
every control process takes them out and does them (`process`).

Safe to run twice, and to kill at any time. Nothing it knows is its own: every step of a chore is a
statement that names the state it leaves, or is done under a lease in SQL, so that of two processes
that see the same thing to do one does it. What beat keeps in Redis is when each chore was last
asked for, and who keeps time: both are written again where they are lost.
"""
