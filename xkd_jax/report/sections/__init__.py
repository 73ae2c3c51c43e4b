"""The sections of the page, a module each: words, tables, charts, pictures and sounds."""
