"""Results to a page: tables, charts and animations."""
