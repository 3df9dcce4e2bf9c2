"""A trial: runs that one-shot overrides made others than those of .config.

Its report stands beside the study's under names of its own, and says what it is.
"""

from dataclasses import replace
from pathlib import PurePath

from matrix.report.document import Block, Document, Picture, Text


def file(name: str, overrides: tuple[str, ...]) -> str:
    """The name of a file of the report: report.md, of a trial report-trial.md."""
    path = PurePath(name)
    return f"{path.stem}-trial{path.suffix}" if overrides else name


def sentences(overrides: tuple[str, ...]) -> list[str]:
    """What a trial is, in a sentence; none for the study itself."""
    if not overrides:
        return []
    return [
        f"Trial: {' '.join(overrides)} makes other runs than .config does; the study's "
        "report stays as it was."
    ]


def marked(
    made: tuple[Document, tuple[Picture, ...]], overrides: tuple[str, ...]
) -> tuple[Document, tuple[Picture, ...]]:
    """A report's document and pictures; of a trial with the sentence first and the
    pictures under names of their own.
    """
    document, pictures = made
    if not overrides:
        return made

    def renamed(block: Block) -> Block:
        if isinstance(block, Picture):
            return replace(block, file=file(block.file, overrides))
        return block

    first, *others = [
        replace(section, blocks=tuple(map(renamed, section.blocks)))
        for section in document.sections
    ]
    said = tuple(map(Text, sentences(overrides)))
    first = replace(first, blocks=(*said, *first.blocks))
    title = f"{document.title} (trial)"
    return Document(title, (first, *others)), tuple(map(renamed, pictures))
