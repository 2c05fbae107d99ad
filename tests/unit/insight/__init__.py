"""The policy document, its mistakes, its limits and its changes: SPEC 2, 3.4, 5.6, 6 and 7."""
