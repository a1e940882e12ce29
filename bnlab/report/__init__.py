"""Stored rows -> a PDF worth handing round.

    numbers     stored rows -> tables: what it states
    words       tables -> sentences: what it says
    pictures    tables -> figures: what it shows
    pages       tables and figures, page by page, for the template
    pdf         all of it, typeset by Typst

Numbers and words need pandas alone; a terminal that wants only those loads neither matplotlib nor Typst.
"""
