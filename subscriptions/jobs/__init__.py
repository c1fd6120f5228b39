"""What happens later: jobs and timers kept in the store, the readers of the change feed, and the embedded runner.

A job is written in the transaction that causes it. A runner claims it under a lease, has its effect performed and marks it done:
an effect in the store is committed together with the mark (exactly once); an effect outside carries an idempotency key (at least once).
"""
