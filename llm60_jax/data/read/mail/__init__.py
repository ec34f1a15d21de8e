"""Readers of mail: mailboxes, messages, and the own words in them."""
