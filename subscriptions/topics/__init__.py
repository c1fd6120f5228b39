"""Topics of the R5 subscriptions backport: what can be subscribed to, and whether a change is an event of it."""
