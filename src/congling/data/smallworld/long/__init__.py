"""Long documents: thousands of characters, whose facts are asked for and lines said again far behind.

::

    lines.py     what a line is, how it is written and read
    state.py     what has been told so far: what may come next, and how likely
    writing.py   a whole document, drawn or read back, with its information
    judging.py   any text by the rules of these documents
"""
