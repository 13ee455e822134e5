"""A Sphinx extension: the definition of a term shows where the term is used, on hover, on focus and at the first touch.

The definitions of all terms of a page are in the page, hidden and without links; book/_static/wsis.js shows them.
"""

from functools import cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

GLOSSARY = "glossary"


@cache
def definitions(app: Sphinx) -> dict[str, str]:
    """{the mark of a term: its definition as HTML} of the whole glossary."""
    tree = app.env.get_and_resolve_doctree(GLOSSARY, app.builder)
    for link in list(tree.findall(nodes.reference)):
        link.replace_self(link.children)
    found = {}
    for item in tree.findall(nodes.definition_list_item):
        html = app.builder.render_partial(nodes.container("", *item[-1].children))["fragment"]
        found |= {mark: html for term in item.findall(nodes.term) for mark in term["ids"]}
    return found


def add_definitions(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the definitions that a page refers to at its end."""
    if doctree is None or page == GLOSSARY or app.builder.name != "html":
        return
    links = (link.get("refuri", "").partition("#") for link in doctree.findall(nodes.reference))
    for mark in dict.fromkeys(mark for file, _, mark in links if file.endswith(f"{GLOSSARY}.html")):
        if mark in definitions(app):
            box = f'<div class="definition" id="definition-{mark}" role="tooltip" popover="auto">'
            context["body"] += f"{box}{definitions(app)[mark]}</div>\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_definitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
