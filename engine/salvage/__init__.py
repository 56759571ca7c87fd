"""Reading what can be read of a damaged SQLite file, without SQLite, and making a whole store of it.

`log` and `pages` find out which pages are as they were written, `records` and `tables` what rows are on them,
`scanning` which of the pages count; `rebuilding`, `agreeing` and `accounting` make a new file in which nothing
contradicts anything else, and `swapping` puts it in the place of the old one. Until then nothing changes the damaged
files. The format is that of https://sqlite.org/fileformat2.html.
"""
