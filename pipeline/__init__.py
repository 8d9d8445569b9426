"""How data moves: sources, codecs, Kafka workers, checkpoints, lake, backfill, query, command line."""
