"""Measurements that a person starts; nothing that trains imports them."""
