"""One self-contained page: built from plain blocks, read without a network, printed without scripts."""
