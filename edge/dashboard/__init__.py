"""The page a person looks at, served by the daemon: verdicts, pictures, trend and health, live."""
