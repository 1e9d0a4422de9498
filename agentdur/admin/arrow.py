"""Answers as an Arrow stream. The one file that knows pyarrow (the extra `sql`)."""

from __future__ import annotations

import pyarrow as pa

from agentdur.core.query import Kind, Table

ROWS_PER_BATCH = 8192

_TYPES = {
    Kind.TEXT: pa.large_utf8(), Kind.INT: pa.int64(), Kind.U32: pa.uint32(), Kind.U64: pa.uint64(),
    Kind.FLOAT: pa.float64(), Kind.BOOL: pa.bool_(), Kind.TIMESTAMP: pa.timestamp("ms", "+00:00"),
    Kind.DURATION: pa.duration("ms"), Kind.BINARY: pa.large_binary(), Kind.NUMBERS: pa.list_(pa.uint32()),
    Kind.TEXTS: pa.list_(pa.large_utf8()), Kind.NOTHING: pa.null(),
}  # fmt: skip


def as_arrow(table: Table) -> bytes:
    """The IPC stream: the schema, and the rows in batches."""
    schema = pa.schema([pa.field(one.name, _TYPES[one.kind], one.nullable) for one in table.columns])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        for start in range(0, len(table.rows), ROWS_PER_BATCH):
            rows = table.rows[start : start + ROWS_PER_BATCH]
            arrays = [pa.array([row[n] for row in rows], field.type) for n, field in enumerate(schema)]
            stream.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue())
