"""Module `dashboard`: one page that shows what inference answers and how long each stage takes."""
