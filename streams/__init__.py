"""Stream processing: the engine and the stages it drives. Importing this must stay free of side effects."""
