"""The actions of ``medseg data``, one file each; ``commands/data.py`` finds them."""
