"""The frame of all pages: HTML document, style, Plotly's script, and the page's own scripts."""
