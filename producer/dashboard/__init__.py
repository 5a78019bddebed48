"""Pages to look at: batches as they run, their results side by side, and a form to try an edit.

Rendered here, with a little script for what moves. Nothing comes from other hosts. What people
typed is escaped by the templates, and the pages' policy lets no script run but a file of ours.
"""
