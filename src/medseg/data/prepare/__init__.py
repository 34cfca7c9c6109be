"""Preparers: what its owners or a user distribute goes in, a folder in medseg's layout comes out.

One file a family of datasets, each with ``prepare(source, layout, **options)``. They read the source, never change it,
and write only through the layout they are handed.
"""
