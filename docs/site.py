"""What the site needs beyond Markdown: equations without scripts, doctests as code, comments on fields.

MkDocs loads this file as a hook, mkdocstrings as an extension of its parser.
"""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

EQUATION = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s# (.*)$")
DOCTEST = re.compile(r"^>>> .*(?:\n(?!$).*)*", re.MULTILINE)  # ends at an empty line, as doctest itself does


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs: fences of LaTeX, which forges show as equations, become MathML, which browsers do."""
    return EQUATION.sub(lambda found: convert(" ".join(found[1].split()), display="block"), markdown)


class SourceNotes(griffe.Extension):
    """What the source says in its own way: doctests, and the comment that gives a field's unit and range."""

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """The comment behind a field or a constant is its docstring."""
        found = COMMENT.search(attr.lines[-1]) if attr.lines else None
        if found and not attr.docstring and not found[1].startswith(("type:", "noqa")):
            attr.docstring = griffe.Docstring(found[1], parent=attr)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Markdown takes a prompt for a quotation: doctests are put between fences."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
