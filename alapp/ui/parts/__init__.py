"""Pieces that several tabs are made of: tables, pictures, figures, downloads."""
