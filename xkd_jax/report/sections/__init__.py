"""The sections of the page, one module each: text, tables, charts, pictures and sounds."""
