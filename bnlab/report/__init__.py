"""Stored rows -> tables, one finding in words, pictures, and a PDF worth handing round.

`tables` and `finding` need pandas alone; a terminal that wants only those loads neither matplotlib nor Typst.
"""
