"""CSV: every column but the image, one file a split."""

from __future__ import annotations

from surd.dataset.columns import PUBLISHED
from surd.dataset.export.job import Job
from surd.dataset.published import batches


def write_csv(job: Job) -> None:
    """``SPLIT.csv``, UTF-8, as RFC 4180 has it: values quoted, null empty and without quotes.

    Text is given as it is. A cell may begin with ``=``, ``+``, ``-`` or ``@``, which a
    spreadsheet takes for a formula: import such columns as text.
    """
    from pyarrow.csv import CSVWriter, WriteOptions

    names = [name for name in PUBLISHED.names if name != "image"]
    for split in job.dataset.splits:
        schema = PUBLISHED.remove(PUBLISHED.get_field_index("image")).remove_metadata()
        options = WriteOptions(quoting_style="all_valid")
        with CSVWriter(job.folder / f"{split}.csv", schema, write_options=options) as writer:
            for table in batches(job.dataset, split, names):
                writer.write_table(table.select(names).cast(schema))
                job.done[split] += table.num_rows
                job.tick({"ok": table.num_rows})
