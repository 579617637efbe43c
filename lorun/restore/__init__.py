"""Restore pictures with a model: `lorun restore`. docs/restore.md says what is done with each kind of file.

`photos` reads and writes pictures, `operators` makes the operator from the options, `restoring` restores one picture in
tiles, `files` goes through the inputs and writes what is asked for.
"""
