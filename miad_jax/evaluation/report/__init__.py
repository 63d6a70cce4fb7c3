"""What evaluating found, as text, tables, pictures and a page."""
