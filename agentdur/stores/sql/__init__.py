"""Questions in SQL: read, held against what is allowed, and answered by a connection that cannot write.

The way of a query: `parse` (sqlglot) → `select` and `expressions`, which write other SQL, of known views and
functions only → `sandbox`, which runs that.
"""
