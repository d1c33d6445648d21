"""A project as many have it: what each request passes, and four things it does."""

from __future__ import annotations
