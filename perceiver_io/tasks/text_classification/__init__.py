"""Classification of sentences and pairs."""
