"""Operations on Subscriptions, one a file."""
