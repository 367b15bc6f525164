"""Rendered or recorded drives as data sets in the field's formats."""
