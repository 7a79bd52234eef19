"""The samples an adapter learns from, and the texts of them that the losses in use need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from surd.dataset.published import Published, batches
from surd.llm.embeddings import TextVectors
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.sentences import sentences_of


@dataclass(frozen=True)
class Sample:
    """One row of the published dataset."""

    row: int
    """Within its split."""
    id: str
    captions: tuple[str, ...]
    """Any of them is the simple prompt; the published one is the first."""
    complex: str


def samples_of(
    location: str,
    dataset: Published,
    split: str,
    params: TrainAdapterParams,
) -> list[Sample]:
    """Those of a split, row by row; without those that lack a complex prompt which a loss needs.

    Raises SurdError where a file cannot be read, or all captions are wanted and some are gone.
    """
    columns = ["id", "simple_prompt", "complex_prompt"]
    rows = [row for table in batches(dataset, split, columns) for row in table.to_pylist()]
    found = [
        Sample(number, row["id"], (row["simple_prompt"],), row["complex_prompt"] or "")
        for number, row in enumerate(rows)
        if row["complex_prompt"] or not needs_complex(params)
    ]
    if params.captions != "all":
        return found
    sentences = sentences_of(location, [sample.id for sample in found])
    return [Sample(one.row, one.id, tuple(sentences[one.id]), one.complex) for one in found]


def with_vectors(
    samples: Sequence[Sample], vectors: TextVectors, params: TrainAdapterParams
) -> list[Sample]:
    """Samples whose published caption has a vector, and of their other texts those that have one.

    Where complex prompts stand in for captions, theirs has one too.
    """
    return [
        replace(one, captions=tuple(text for text in one.captions if text in vectors))
        for one in samples
        if one.captions[0] in vectors and (not params.complex_share or one.complex in vectors)
    ]


def never_embedded(
    samples: Sequence[Sample], vectors: TextVectors, params: TrainAdapterParams
) -> list[str]:
    """Texts that stand beside a caption with a vector, and that embed-llm was not given."""
    return list(
        dict.fromkeys(
            text
            for one in samples
            if one.captions[0] in vectors
            for text in (*one.captions, *((one.complex,) if params.complex_share else ()))
            if text not in vectors.places
        )
    )


def needs_complex(params: TrainAdapterParams) -> bool:
    """Whether a loss, or a share of the samples, asks for the complex prompts' states."""
    return bool(params.attention_weight or params.prompt_weight or params.complex_share)


Windows = Mapping[str, Sequence[str]]
"""Complex prompt -> its pieces that fit into the text encoder's window."""


def texts_of(samples: Iterable[Sample], params: TrainAdapterParams, windows: Windows) -> list[str]:
    """The distinct texts that training on them encodes, in the order of the samples."""
    complex_ones = needs_complex(params)

    def of(sample: Sample) -> Iterator[str]:
        yield from sample.captions
        if complex_ones:
            yield sample.complex  # cut, where it stands for a caption
            yield from windows[sample.complex]

    return list(dict.fromkeys(text for sample in samples for text in of(sample)))
