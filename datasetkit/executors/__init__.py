"""Where per-image work runs: `local` in threads, `batches` in threads with one model for all."""
