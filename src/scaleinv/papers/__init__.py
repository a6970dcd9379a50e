"""The papers: a folder for each with its runs, claims and figures; the machinery they share."""
