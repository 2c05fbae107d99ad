"""`--on`: captures and cases judged by the workers of a Dask cluster (docs/scale.md)."""
