"""Pages for people (docs/report.md): what is summed up for them, and what stands in them."""
