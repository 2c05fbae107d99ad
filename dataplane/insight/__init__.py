"""Questions about a policy and captures, answered by the engine that enforces: nothing here judges packets (SPEC 8)."""
