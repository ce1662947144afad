"""Readers of image data: folders, tables, arrays and published data sets."""
