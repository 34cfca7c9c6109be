"""One figure a file, each a function of plain data; a PNG and an SVG with the same bytes whenever they are drawn."""
