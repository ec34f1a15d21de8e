"""Readers of HTML and of what is made of it: web pages, Wikipedia dumps, note archives."""
