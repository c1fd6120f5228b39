"""The web console: the live page of the exchange, the monitor of Subscriptions, the jobs.

Pages are plain HTML with one script each; what they show is in `pages`, what they share in `site`.
"""
