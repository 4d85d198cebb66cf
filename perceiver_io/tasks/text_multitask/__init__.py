"""Several tasks on sentences and pairs in one model."""
