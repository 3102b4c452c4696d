"""Importers: files of other supervisors read as jobs, each with a list of what has no equivalent here.

An importer is a module with one function, `read(source)`. It gives a job what means the same here, and puts everything
else that the file says in the list; nothing is guessed, and nothing is dropped in silence. `formats` knows them all.
"""
