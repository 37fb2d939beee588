"""Backups: all that a server is, in one file that can be verified before anything is made of it.

`archive` is the file's form, `taking` makes one of a data folder, also while a server works in it, and `restoring`
makes a data folder of one.
"""
